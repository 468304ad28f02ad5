"""Safe changes: what may lock out undoes itself, unless a new connection shows that the server can still be reached.

`call` is the door for every change on a server that may be one. It tries the operator's checks first, makes the change,
tries them again over a new connection and confirms over it. The server counts down meanwhile: whatever breaks here, it
goes back by itself, and then that is what is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit.spec import Action, needs_safe

from ..errors import ActionFailed, OutcomeUnknown, RolledBack, SfError, TrustError, Unreachable, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, reply_of
from . import lifelines
from .ops import outcome_of

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from .workspace import Workspace

CONFIRM_S = 120
#: What is still worth waiting for after the deadline: the server's timer, what it puts back, sshd's own start.
SLACK_S = 30
CHECKS_RETRIED_S = 10
CHECKS_AT_ONCE = 16
#: A connection that says nothing more is given up for a newer one.
ATTEMPT_S = 60
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
CONFIRMED = "confirmed over a new connection"


@dataclass(frozen=True)
class Safety:
    """How safe changes are made. `wanted` makes one of what need not be one; `checks` are what has to hold, by server.

    Without `confirm` somebody else has to, within `within_s` seconds.
    """

    wanted: bool = False
    within_s: int = CONFIRM_S
    confirm: bool = True
    checks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


#: What nobody asked to be otherwise.
USUAL = Safety()


def safety_of(action: Action, params: Mapping[str, Any], safety: Safety) -> int:
    """The seconds within which this has to be confirmed, 0 for what is no safe change.

    Raises UsageError for what can never be one.
    """
    if needs_safe(action.safe, action.lifelines, params):
        return safety.within_s
    if safety.wanted and action.kind != "change":
        why = "it changes nothing" if action.kind == "read" else "it is done once, and nothing could put that back"
        raise UsageError(f"{action.name} cannot be a safe change: {why}", hint="leave --safe out", code="unsupported")
    return safety.within_s if safety.wanted else 0


def with_checks(workspace: Workspace, safety: Safety) -> Safety:
    """With what fleet.toml expects of each server. Raises ConfigError when the file cannot be loaded."""
    from ..model.selector import resolve

    checks: dict[str, tuple[str, ...]] = {}
    for stanza in workspace.fleet.checks.values():
        for name in resolve(workspace.fleet.servers, stanza.on):
            checks[name] = tuple(dict.fromkeys((*checks.get(name, ()), *stanza.expect)))
    return replace(safety, checks=checks)


def told_before(planned: CommandResult, confirm_s: int) -> CommandResult:
    """The plan with a remark, when something in it would be a safe change."""
    if not confirm_s or not any(server.reply and server.reply.changes for server in planned.servers):
        return planned
    return replace(planned, notes=(*planned.notes, f"safe change: {undone_within(confirm_s)}"))


def undone_within(seconds: int) -> str:
    unit, length = next((unit, length) for unit, length in (("h", 3600), ("m", 60), ("s", 1)) if seconds % length == 0)
    return f"undone by itself unless confirmed within {seconds // length}{unit}"


async def call(
    caller: Caller, link: Link, request: Request, op_id: str, version: int, report: Report, safety: Safety
) -> Reply:
    """Run a change; one with `confirm_s` is confirmed too, over a new connection.

    Raises what `Caller.call` does; ActionFailed(check-failed) when one of the checks fails before anything was changed;
    RolledBack when the server is seen to have gone back; OutcomeUnknown(pending-confirm) while nobody can say.
    """
    change = _Change(caller, link, request, op_id, report, safety)
    if request.confirm_s:
        await change.check_before()
    try:
        reply = await caller.call(link, request, op_id, version, report)
    except OutcomeUnknown as error:
        found = reply_of(error)
        if found is None and request.confirm_s:
            reply = await change.lost(error)
        elif found is not None and found.outcome == "pending-confirm":
            reply = found
        else:
            raise
    if reply.outcome == "pending-confirm":
        return await change.confirmed(reply)
    await lifelines.prove(caller, link, reply, report)
    return reply


@dataclass(frozen=True)
class _Change:
    """One safe change on one server."""

    caller: Caller
    link: Link
    request: Request
    op_id: str
    report: Report
    safety: Safety

    @property
    def checks(self) -> tuple[str, ...]:
        return self.safety.checks.get(self.link.name, ())

    async def check_before(self) -> None:
        """What fails already would be blamed on the change. Raises ActionFailed."""
        failed = await self._failing()
        if failed:
            error = ActionFailed(
                f"{failed} before the change, so nothing was changed",
                server=self.link.name,
                code="check-failed",
                hint="repair that first, or change [checks] in fleet.toml",
            )
            error.reply = Reply("", error.code)
            raise error

    async def confirmed(self, waiting: Reply) -> Reply:
        """Confirm over a new connection, however many it takes until the server's time is over."""
        if not self.safety.confirm:
            raise self.waits("", waiting)
        self._tell("confirming over a new connection")
        end = _now() + _left_s(waiting, self.request.confirm_s or self.safety.within_s) + SLACK_S
        pause, trouble = FIRST_PAUSE_S, ""
        while _now() < end:
            await self.caller.hang_up(self.link)
            try:
                async with asyncio.timeout_at(min(end, _now() + ATTEMPT_S)), self.caller.hold(self.link):
                    await self._confirm(waiting, reached_late=bool(trouble))
                    return replace(waiting, outcome="done", notes=(*waiting.notes, CONFIRMED))
            except (RolledBack, _Final):
                raise
            except TimeoutError:
                trouble = trouble or "no answer"
            except SfError as error:
                trouble = error.message
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        raise self.waits(f"it cannot be reached to see whether it has gone back ({trouble})", waiting)

    async def lost(self, error: OutcomeUnknown) -> Reply:
        """How it ended when its answer was lost: a change may cut the connection that asked for it and still be right.

        Raises what the change ended with, or `error` when nobody can say.
        """
        self._tell("asking over a new connection what became of it")
        end, pause = _now() + self.request.confirm_s + SLACK_S, FIRST_PAUSE_S
        while _now() < end:
            await self.caller.hang_up(self.link)
            with suppress(Unreachable, TimeoutError):
                async with asyncio.timeout_at(end):
                    answer = await self._ask("op.status", {"op": self.op_id})
                if answer.data.get("state") == "unknown":
                    break
                ended = outcome_of(self.caller, self.link, self.op_id, answer, cancelling=False)
                if ended.outcome != "running":
                    return replace(ended, data=ended.receipt["data"])
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        error.hint += f"; what it changed is undone by itself, unless: {self._by_hand}"
        raise error

    def waits(self, why: str, waiting: Reply) -> _Final:
        """Nobody has confirmed it; `why` not, "" when nobody was to."""
        left = _left_s(waiting, self.request.confirm_s or self.safety.within_s)
        until = f"{datetime.now().astimezone() + timedelta(seconds=left):%H:%M:%S}"
        error = _Final(
            f"{why}; unless it is confirmed it is undone at {until}"
            if why
            else f"waits for confirmation until {until}",
            server=self.link.name,
            code="pending-confirm",
            hint=f"sf safe status --on {self.link.name}" if why else self._by_hand,
        )
        error.reply = waiting
        return error

    @property
    def _by_hand(self) -> str:
        return f"sf safe confirm {self.op_id} --on {self.link.name}"

    async def _confirm(self, waiting: Reply, *, reached_late: bool) -> None:
        """On the connection that is held now. Raises RolledBack, or _Final where another attempt is no use."""
        pending = (await self.caller.greet(self.link)).pending == self.op_id
        failed = await self._failing_for_good() if pending else ""
        if failed:
            raise await self._undone(failed, waiting)
        try:
            # Also when it waits no more: the server tells which verdict was first, and it may have been ours.
            await self._ask("safe.confirm", {"op": self.op_id})
        except RolledBack as error:
            raise self._went_back(waiting, reached_late=reached_late) from error
        except ActionFailed as error:
            if pending:
                raise
            raise self._went_back(waiting, reached_late=reached_late) from error
        except TrustError as error:
            if reply_of(error) is None:  # not the server's answer, but what is in its place
                raise
            raise self.waits(f"this key cannot confirm it: {error.message}", waiting) from error

    async def _undone(self, failed: str, waiting: Reply) -> SfError:
        """The error to raise once the server was told to go back."""
        try:
            undone = await self._ask("safe.rollback", {"op": self.op_id})
        except SfError as error:
            return self.waits(f"{failed} after the change, and undoing it failed ({error.message})", waiting)
        problems = undone.data.get("problems") or []
        left = f"; not all could be put back: {', '.join(map(str, problems))}" if problems else ""
        return self._rolled_back(f"{failed} after the change, so it was undone{left}", waiting)

    def _went_back(self, waiting: Reply, *, reached_late: bool) -> RolledBack:
        why = "it could not be reached over a new connection, and" if reached_late else "it was not confirmed, and"
        return self._rolled_back(f"{why} has gone back", waiting)

    def _rolled_back(self, message: str, waiting: Reply) -> RolledBack:
        error = RolledBack(message, server=self.link.name, hint=f"sf safe show {self.op_id} --on {self.link.name}")
        error.reply = replace(waiting, outcome="rolled-back", secrets={})
        return error

    async def _failing_for_good(self) -> str:
        """What fails after a few seconds too: a service may take a moment to answer again."""
        end, pause = _now() + CHECKS_RETRIED_S, FIRST_PAUSE_S
        while (failed := await self._failing()) and _now() < end:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return failed

    async def _failing(self) -> str:
        """The checks that fail, and what was said; "" when none does."""
        failed = []
        for start in range(0, len(self.checks), CHECKS_AT_ONCE):
            asked = list(self.checks[start : start + CHECKS_AT_ONCE])
            answer = await self._ask("safe.check", {"expect": asked})
            failed += _failed(asked, answer.data.get("results"), self.link)
        return f"{'; '.join(failed)}: {'fail' if len(failed) > 1 else 'fails'}" if failed else ""

    async def _ask(self, name: str, params: dict[str, Any]) -> Reply:
        declared = registry.load(name)
        request = Request(name, params, timeout_s=declared.timeout, read_only=declared.kind == "read")
        return await self.caller.call(self.link, request, new_ulid(), declared.version, self._report_quietly)

    def _report_quietly(self, event: Mapping[str, Any]) -> None:
        """The operation that people can follow is the change, and not what is asked around it."""
        if event.get("t") != "op":
            self.report(event)

    def _tell(self, doing: str) -> None:
        self.report({"t": "step", "server": self.link.name, "doing": doing})


class _Final(OutcomeUnknown):
    """It waits, and another attempt would change nothing about that."""


def _failed(asked: list[str], results: Any, link: Link) -> list[str]:
    """Raises TrustError when the answer is not one on these checks."""
    try:
        told = {str(one["check"]): (one["ok"] is True, str(one["said"])) for one in results}
        return [f"{check} ({told[check][1]})" for check in asked if not told[check][0]]
    except (KeyError, TypeError):
        raise TrustError("the server's answer cannot be read", server=link.name, code="bad-answer") from None


def _left_s(waiting: Reply, within_s: int) -> float:
    """Seconds that the server gave when it answered, by its own clock; never more than were asked for."""
    deadline = (waiting.receipt.get("safe") or {}).get("deadline")
    ended = waiting.receipt.get("finished_at")
    if type(deadline) is int and type(ended) is int:
        return min(max(deadline - ended, 0) / 1000, within_s)
    return within_s


def _now() -> float:
    return asyncio.get_running_loop().time()
