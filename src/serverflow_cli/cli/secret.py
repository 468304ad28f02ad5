"""`sf secret`: values sealed to those whom the trust file names, in secrets.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError, UsageError
from ..ui.text import clean_block
from .options import Confirm, Plan, Yes
from .session import Session

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name (a-z, 0-9, _ and -)")]
Stdin = Annotated[bool, typer.Option("--stdin", help="Read the value from stdin; one newline at its end is dropped")]
_LENGTH = 32
#: More than any value or file may be; so that an endless stdin is an error.
_LONGEST = 4 * 1024 * 1024


def list_(context: typer.Context) -> int:
    """List the secrets: who can open each, what refers to it, whether it is up to date."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.secret_list))


def show(context: typer.Context, name: Name) -> int:
    """Open a secret with your own key and print its value."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.secret_show(w, name))
    if session.options.json:
        return session.finish(result)
    value, stdout = str(result.data["value"]), session.terminal.stdout
    if session.terminal.shows_results or not hasattr(stdout, "buffer"):
        session.terminal.out(clean_block(value))
    else:  # into a pipe or file: exactly, whatever the locale
        stdout.buffer.write(value.encode() + b"\n")
    return 0


def set_(context: typer.Context, name: Name, stdin: Stdin = False, plan: Plan = False) -> int:
    """Set a secret's value, new or in place of the one before. It is asked for twice, or read from stdin."""
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.secret_set(w, name, lambda: _value(session, name, stdin), plan=plan)
    )
    return session.finish(result, mutates=True, planned=plan)


def rotate(
    context: typer.Context,
    name: Name,
    stdin: Stdin = False,
    generate: Annotated[bool, typer.Option("--generate", help="Make a new value of letters and digits")] = False,
    length: Annotated[
        str | None, typer.Option("--length", metavar="N", help=f"So many of them, 16 to 1024 ({_LENGTH} when left out)")
    ] = None,
    plan: Plan = False,
) -> int:
    """Give a secret that is there a new value."""
    if generate and stdin:
        raise UsageError("--generate and --stdin are two different values")
    if length is not None and not generate:
        raise UsageError("--length is for --generate")
    count = _count(length or str(_LENGTH))
    session: Session = context.obj

    def value() -> str:
        return _generated(count) if generate else _value(session, name, stdin)

    result = session.in_workspace(lambda w: session.flows.secret_set(w, name, value, plan=plan, exists=True))
    return session.finish(result, mutates=True, planned=plan)


def import_(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="NAME=value lines; a table if it ends in .toml; - is stdin")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Also give new values to secrets that are there")] = False,
    plan: Plan = False,
    yes: Yes = False,
) -> int:
    """Set many secrets at once, all or none. Names become lower case; values are not shown."""
    from ..config.dotenv import parse_dotenv, parse_table

    session: Session = context.obj
    text = text_of_stdin(session) if file == "-" else _file(file)
    values = parse_table(text) if file.endswith(".toml") else parse_dotenv(text)
    approve = session.approver(yes=yes or plan)
    result = session.in_workspace(
        lambda w: session.flows.secret_import(w, values, replace=replace, plan=plan, approve=approve)
    )
    return session.finish(result, mutates=True, planned=plan)


def remove(context: typer.Context, name: Name, plan: Plan = False, confirm: Confirm = None) -> int:
    """Remove a secret that fleet.toml does not refer to."""
    session: Session = context.obj
    approve = session.approver(yes=False, name=name, confirm=name if plan else confirm)
    result = session.in_workspace(lambda w: session.flows.secret_remove(w, name, plan=plan, approve=approve))
    return session.finish(result, mutates=True, planned=plan)


def reseal(context: typer.Context, plan: Plan = False) -> int:
    """Seal every secret to exactly those whom the trust file names. Changes of keys do this by themselves."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.secret_reseal(w, plan=plan))
    return session.finish(result, mutates=True, planned=plan)


def _value(session: Session, name: str, from_stdin: bool) -> str:
    """From stdin, or asked for; never from the command line, where `ps` and the shell's history show it."""
    if from_stdin and not session.terminal.stdin.isatty():
        text = text_of_stdin(session)
        return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    return asked_twice(session, f"Value of {name}")


def asked_twice(session: Session, question: str) -> str:
    """What is typed, unseen; nothing needs not be typed again. Raises UsageError."""
    otherwise = "give it on stdin with --stdin"
    value = session.prompts.hidden(question, otherwise=otherwise)
    if value and session.prompts.hidden("Once more", otherwise=otherwise) != value:
        raise UsageError("the two are not the same; nothing was done")
    return value


def text_of_stdin(session: Session) -> str:
    """All of it, with its line ends as they are."""
    stdin = session.terminal.stdin
    if hasattr(stdin, "buffer"):
        return _decoded(stdin.buffer.read(_LONGEST), "what came on stdin")
    return stdin.read(_LONGEST)


def _file(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            return _decoded(file.read(_LONGEST), name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise ConfigError(f"{name} cannot be read: {reason}") from None


def _decoded(data: bytes, what: str) -> str:
    if len(data) >= _LONGEST:
        raise UsageError(f"{what} is too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text") from None


def _count(text: str) -> int:
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
    if not 16 <= count <= 1024:
        raise UsageError(f"--length: {text[:20]!a} is not a number from 16 to 1024")
    return count


def _generated(length: int) -> str:
    """No character that a URL, a shell or a configuration file would take for its own."""
    import secrets
    import string

    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


COMMANDS = {
    "set": set_, "list": list_, "show": show, "rotate": rotate, "import": import_, "remove": remove, "reseal": reseal,
}  # fmt: skip
