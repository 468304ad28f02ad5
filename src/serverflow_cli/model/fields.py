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

from serverflow_actions.kit import checks, grammar

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


def _argument(raw: str) -> None:
    if not raw.isprintable() or len(raw) > 1024:
        raise ValueError("must be one line of printable text, at most 1024 characters")


_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([1-9][0-9]?))?\Z", re.ASCII)


def _schedule(raw: str) -> None:
    """Five fields of crontab(5), in numbers."""
    columns = raw.split(" ")
    if len(columns) != 5:
        raise ValueError('must be five fields with one space between, as in "15 3 * * *"')
    for column, (low, high) in zip(columns, _CRON_RANGES, strict=True):
        for part in column.split(","):
            match = _CRON_PART.match(part)
            bounds = [int(n) for n in match.groups()[:2] if n] if match else []
            if not match or bounds != sorted(bounds) or any(not low <= n <= high for n in bounds):
                raise ValueError(f"{part[:60]!a} does not fit {low}-{high} in crontab(5)")


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
Schedule = Annotated[str, _checked(_schedule)]
Rule = Annotated[str, _checked(_rule)]
Check = Annotated[str, _checked(checks.parse)]
ActionPattern = Annotated[
    str, _pattern(r"\*|[a-z][a-z0-9-]*\.(?:[a-z][a-z0-9-]*)?\*?(?<!\.)", "an action or a glob of actions")
]
EventPattern = Annotated[str, _pattern(r"\*|[a-z][a-z_]*\.(?:\*|[a-z][a-z_]*)", "an event or a glob of events")]
RecordName = Annotated[
    str, _pattern(r"@|(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,250}[a-z0-9_])?|\*", "a name in the zone, or @")
]
#: A moment with its offset: a time without one would mean another thing on another machine.
Moment = Annotated[datetime, Field(strict=True), AfterValidator(_with_offset)]
Flag = Annotated[bool, Field(strict=True)]
