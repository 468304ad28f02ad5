"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from serverflow_actions.kit import grammar

from ..errors import UsageError

if TYPE_CHECKING:
    from ..flows.safe import Safety

GLOBAL_HELP = (
    ("--fleet PATH", "The fleet folder or its fleet.toml (else SF_FLEET, else the nearest one upward)"),
    ("--json", "Print one JSON document; errors too"),
    ("-v, --verbose", "Tell each step on stderr"),
    ("--debug", "Show a traceback with an error"),
    ("--no-color", "No colour (as does NO_COLOR)"),
)

On = Annotated[
    str, typer.Option("--on", metavar="SELECTOR", help="Servers: name, glob, @role, +tag, all; a,b adds, !x removes")
]
OnAll = Annotated[str | None, typer.Option("--on", metavar="SELECTOR", help="Only these servers (all when left out)")]
Only = Annotated[str | None, typer.Option("--only", metavar="AREA", help="Only this area of fleet.toml")]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would change, and change nothing")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
Confirm = Annotated[str | None, typer.Option("--confirm", metavar="NAME", help="The name that would have to be typed")]
Seal = Annotated[bool, typer.Option("--seal", help="Seal new passwords into secrets.toml instead of showing them")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after this time, such as 5m")
]
Safe = Annotated[bool, typer.Option("--safe", help="Undo it by itself unless it is confirmed over a new connection")]
ConfirmWithin = Annotated[
    str | None,
    typer.Option(
        "--confirm-within",
        metavar="DURATION",
        help="The time for that, 10s to 10m, or to 1h where it has to be safe [default: 2m]; as --safe",
    ),
]
NoConfirm = Annotated[bool, typer.Option("--no-confirm", help="Leave that to `sf safe confirm`; as --safe")]
LockWait = Annotated[
    str, typer.Option("--lock-wait", metavar="DURATION", help="Wait this long for someone else's work to end")
]


@dataclass(frozen=True)
class GlobalOptions:
    """Options that are taken anywhere on the line, so that `sf --json op list` and `sf op list --json` are the same."""

    fleet: str | None = None
    json: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    #: How many words stand after `--`: those that no option was taken from.
    after_dashes: int = 0


_FLAGS = {"--json": "json", "--verbose": "verbose", "-v": "verbose", "--debug": "debug", "--no-color": "no_color"}


def take_global_options(argv: Sequence[str]) -> tuple[GlobalOptions, list[str]]:
    """Split the global options from the rest of the line; `--` ends the search. `--fleet` without a value stays."""
    fleet: str | None = None
    switched: set[str] = set()
    after_dashes = 0
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            behind = list(words)
            after_dashes = len(behind)
            rest += [word, *behind]
        elif word in _FLAGS:
            switched.add(_FLAGS[word])
        elif word.startswith("--fleet="):
            fleet = word.removeprefix("--fleet=")
        elif word == "--fleet" and (value := next(words, None)) is not None:
            fleet = value
        else:
            rest.append(word)
    return GlobalOptions(fleet, after_dashes=after_dashes, **dict.fromkeys(switched, True)), rest


def seconds(option: str, text: str) -> int:
    """The seconds of a duration option. Raises UsageError."""
    try:
        return grammar.duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


#: Less would not do for a new connection to a slow server, and nobody waits for more.
SHORTEST_CONFIRM_S, LONGEST_CONFIRM_S = 10, 3600


def safety(safe: bool, within: str | None, no_confirm: bool, *, implied: bool = True) -> Safety:
    """How safe changes are made; where it is `implied`, whoever says how wants one. Raises UsageError."""
    from ..flows.safe import CONFIRM_S, Safety

    within_s = seconds("--confirm-within", within) if within is not None else CONFIRM_S
    if not SHORTEST_CONFIRM_S <= within_s <= LONGEST_CONFIRM_S:
        raise UsageError(f"--confirm-within {within}: from 10s to 1h")
    wanted = safe or (implied and (within is not None or no_confirm))
    return Safety(wanted=wanted, within_s=within_s, confirm=not no_confirm)
