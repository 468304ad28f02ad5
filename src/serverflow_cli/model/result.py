"""What commands return: frozen, and the same for people, for `--json` and for exit codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from serverflow_actions.kit.change import Change

from ..errors import PartialFailure, SfError

#: What flows tell while they work: {"t": "connect" | "step" | "note" …, "server": name, …}. Shown on stderr, never
#: parsed.
Report = Callable[[Mapping[str, Any]], None]
Mode = Literal["run", "plan"]


@dataclass(frozen=True)
class Request:
    """One action as it is asked of one server."""

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "run"
    secrets: Mapping[str, str] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()
    timeout_s: int | None = None
    lock_wait_s: int = 30
    confirm_s: int = 0
    plan_sha256: str | None = None
    base: Mapping[str, str] | None = None
    #: A read or a plan: nothing is lost when the connection is.
    read_only: bool = False


@dataclass(frozen=True)
class Reply:
    """A verified receipt or reply, and what came with it."""

    op_id: str
    outcome: str
    changes: tuple[Change, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    plan_sha256: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reply_of(error: SfError) -> Reply | None:
    """What the server said and did before it failed, where there is a receipt."""
    return error.reply if isinstance(error.reply, Reply) else None


@dataclass(frozen=True)
class ServerResult:
    """How one server fared: a reply, or an error. Of something else that can fail, such as a zone, `kind` says what it
    is. What is only told of, such as the trust file, is no server: it is not counted.
    """

    name: str
    reply: Reply | None = None
    error: SfError | None = None
    is_server: bool = True
    kind: str = "server"

    @property
    def outcome(self) -> str:
        if self.reply:
            return self.reply.outcome
        return self.error.code if self.error else "skipped"


@dataclass(frozen=True)
class CommandResult:
    """The whole command. `data` is what a command has to say beyond its servers (a list, a table, a key)."""

    fleet: str = ""
    op: str = ""
    servers: tuple[ServerResult, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[ServerResult, ...]:
        return tuple(s for s in self.servers if s.error)

    @property
    def error(self) -> SfError | None:
        """None when all is well; the common error when all failed alike; PartialFailure (exit 10) otherwise."""
        failed = [s.error for s in self.servers if s.error]
        kinds = [s.kind for s in self.servers if s.is_server]
        if not failed:
            return None
        if len(failed) == len(kinds) and len({e.exit_code for e in failed}) == 1:
            return failed[0]
        return PartialFailure(_share([s.kind for s in self.failures], kinds))

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0


def _share(failed: Sequence[str], kinds: Sequence[str]) -> str:
    """`1 of 3 servers failed`, by the kinds of rows; `3 of 4 failed` where they are of several, or all of one."""
    alike = kinds.count(failed[0])
    if len(set(failed)) == 1 and len(failed) < alike:
        return f"{len(failed)} of {alike} {failed[0]}s failed"
    return f"{len(failed)} of {len(kinds)} failed"
