"""The types of the fleet file's values: the grammars of `kit.grammar` as pydantic types.

Values stay as they are written ("256MiB", "30m"); what needs a number converts it where it is used.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from serverflow_actions.kit import checks, events, grammar, route

from . import address, selector


def _checked(check: Callable[[str], Any]) -> AfterValidator:
    """Refuse what the grammar refuses, and keep the text."""

    def keep(raw: str) -> str:
        check(raw)
        return raw

    return AfterValidator(keep)


def _pattern(pattern: str, what: str) -> AfterValidator:
    def match(raw: str) -> str:
        if not re.fullmatch(pattern, raw, re.ASCII):  # compiled at first use: most runs need few of them
            raise ValueError(f"{raw[:60]!a} is not {what}")
        return raw

    return AfterValidator(match)


def _server_name(raw: str) -> str:
    if raw in selector.RESERVED:
        raise ValueError(f"{raw} is reserved: selectors give it a meaning")
    return grammar.label(raw)


def _ed25519(raw: str) -> str:
    key = grammar.sshkey(raw)
    if not key.startswith("ssh-ed25519 "):
        raise ValueError("only ssh-ed25519 keys can sign")
    return key


def _x25519(raw: str) -> None:
    kind, _, encoded = raw.partition(":")
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if kind != "x25519" or size != 32:
        raise ValueError("must be x25519: and the base64 of 32 bytes")


def _with_offset(raw: datetime) -> datetime:
    if raw.tzinfo is None:
        raise ValueError("must end in Z or an offset such as +02:00")
    return raw


def _rule(raw: str) -> None:
    """In one spelling, so that equal rules are equal texts."""
    usual = grammar.rule(raw)
    if raw != usual:
        raise ValueError(f"{raw[:60]!a} is written {usual}")


def _place(raw: str) -> None:
    if route.target_of(raw).kind != "proxy" or raw.isdigit():
        raise ValueError(f"{raw[:60]!a} is not ADDRESS:PORT")


def _prefix(raw: str) -> None:
    route.location(f"{raw} 1")


def _argument(raw: str) -> None:
    if not raw.isprintable() or len(raw) > 1024:
        raise ValueError("must be one line of printable text, at most 1024 characters")


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    """Without what only a shell would understand: there is none."""
    from serverflow_actions.kit import argv

    argv.check(words)
    return words


def param_text(value: Any) -> list[str]:
    """An action's parameter, as the file has it, as texts: several for a list. Raises ValueError."""
    values = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, list | tuple) and not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts in quotes")
    if not all(isinstance(item, bool | int | str) for item in values):
        raise ValueError("must be text, a whole number, true or false, or a list of texts")
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in values]
    for text in texts:
        _argument(text)
    return texts


def _param(value: Any) -> Any:
    param_text(value)
    return tuple(value) if isinstance(value, list) else value


ServerName = Annotated[str, AfterValidator(_server_name)]
Name = Annotated[str, AfterValidator(grammar.name)]
UserName = Annotated[str, AfterValidator(grammar.username)]
SecretName = Annotated[str, _pattern(r"[a-z][a-z0-9_-]{0,62}", "a secret's name (a-z, 0-9, _ and -)")]
Tag = Annotated[str, AfterValidator(grammar.label)]
PackageName = Annotated[str, AfterValidator(grammar.package)]
Selector = Annotated[str, _checked(selector.terms)]
Host = Annotated[str, AfterValidator(address.host)]
HostName = Annotated[str, AfterValidator(grammar.hostname)]
Jump = Annotated[str, _checked(address.parse_jump)]
Port = Annotated[int, Field(strict=True), AfterValidator(grammar.port)]
#: Below 1024 only root may listen (ip(7)), and nothing that we start does.
ServicePort = Annotated[int, Field(strict=True, ge=1024, le=65535)]
Address = Annotated[str, AfterValidator(grammar.address)]
TimeZone = Annotated[str, AfterValidator(grammar.timezone)]
Path = Annotated[str, AfterValidator(grammar.path)]
Size = Annotated[str, _checked(grammar.size)]
Duration = Annotated[str, _checked(grammar.duration)]
FullName = Annotated[str, AfterValidator(grammar.gecos)]
Text = Annotated[str, AfterValidator(grammar.text)]
Document = Annotated[str, AfterValidator(grammar.document)]
SshKey = Annotated[str, AfterValidator(grammar.sshkey)]
SigningKey = Annotated[str, AfterValidator(_ed25519)]
SealingKey = Annotated[str, _checked(_x25519)]
Argument = Annotated[str, _checked(_argument)]
COMMAND = AfterValidator(_command)
ActionName = Annotated[
    str, _pattern(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\.[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "an action such as service.restart")
]
ParamName = Annotated[str, _pattern(r"[a-z][a-z0-9-]{0,40}", "a parameter's name (a-z, 0-9 and -)")]
ParamValue = Annotated[Any, AfterValidator(_param)]
#: In one spelling, so that equal schedules are equal texts.
Schedule = Annotated[str, AfterValidator(grammar.schedule)]
Rule = Annotated[str, _checked(_rule)]
RouteHost = Annotated[str, _checked(route.host)]
RoutePlace = Annotated[str, _checked(_place)]
RoutePath = Annotated[str, _checked(_prefix)]
Rate = Annotated[str, _checked(route.rate)]
AcmeDirectory = Annotated[
    str,
    _pattern(
        r"letsencrypt(-staging)?|https://[a-z0-9.:\[\]-]+/[!-~]*", "letsencrypt, letsencrypt-staging or an https URL"
    ),
]
Check = Annotated[str, _checked(checks.parse)]
ActionPattern = Annotated[
    str, _pattern(r"\*|[a-z][a-z0-9-]*\.(?:[a-z][a-z0-9-]*)?\*?(?<!\.)", "an action or a glob of actions")
]
EventRule = Annotated[str, _checked(events.rule)]
#: Without a name before it: who sends is told by the event. One label is enough for a host, as in root@localhost.
MailAddress = Annotated[
    str,
    _pattern(
        r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{0,63}"
        r"@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?",
        "a mail address",
    ),
]
RecordName = Annotated[
    str, _pattern(r"@|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,250}[a-z0-9_])?|\*", "a name in the zone, or @")
]
#: A moment with its offset: a time without one would mean another thing on another machine.
Moment = Annotated[datetime, Field(strict=True), AfterValidator(_with_offset)]
Flag = Annotated[bool, Field(strict=True)]
