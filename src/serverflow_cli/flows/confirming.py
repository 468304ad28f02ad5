"""One safe change on one server: what has to hold before and after it, and the new connection that confirms it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ActionFailed, OutcomeUnknown, RolledBack, SfError, TrustError, Unreachable
from ..model.result import Reply, Report, Request, reply_of
from . import safe_checks
from .ops import outcome_of

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from .safe import Safety

#: What is still worth waiting for after the deadline: the server's timer, what it puts back, sshd's own start.
SLACK_S = 30
CHECKS_RETRIED_S = 10
#: A connection that says nothing more is given up for a newer one.
ATTEMPT_S = 60
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
CONFIRMED = "confirmed over a new connection"


class Waiting(NamedTuple):
    """What the server answered to a change that waits; when its time is over, by the loop's clock and by the wall's."""

    reply: Reply
    end: float
    until: datetime


@dataclass
class SafeChange:
    """One change; `call` in flows/safe.py says in which order its methods are for."""

    caller: Caller
    link: Link
    request: Request
    op_id: str
    report: Report
    safety: Safety
    _failed_before: Mapping[str, str] = field(default_factory=dict)
    _failed_after: str = ""

    async def check_before(self) -> None:
        """What fails already is not the change's doing, which may repair it. Raises what `Caller.call` does."""
        self._failed_before = await self._failing()

    async def confirmed(self, reply: Reply, now_ms: int | None = None) -> Reply:
        """Confirm over a new connection, however many it takes until the server's time is over.

        `now_ms` is the server's clock where `reply` is not fresh. Raises RolledBack or OutcomeUnknown.
        """
        waiting = self._waiting(reply, now_ms)
        if not self.safety.confirm:
            raise self._waits("", waiting)
        self.report({"t": "step", "server": self.link.name, "doing": "confirming over a new connection"})
        end, pause, trouble = waiting.end + SLACK_S, FIRST_PAUSE_S, ""
        while _now() < end:
            await self.caller.hang_up(self.link)
            try:
                async with asyncio.timeout_at(min(end, _now() + ATTEMPT_S)), self.caller.hold(self.link):
                    note = await self._confirm(waiting, reached_late=bool(trouble))
                self.report({"t": "confirmed", "server": self.link.name})
                return replace(waiting.reply, outcome="done", notes=(*waiting.reply.notes, note))
            except (RolledBack, _Final):
                raise
            except TimeoutError:
                trouble = trouble or "no answer"
            except SfError as error:
                trouble = error.message
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        raise self._waits(f"it cannot be reached to see whether it has gone back ({trouble})", waiting)

    async def lost(self, error: OutcomeUnknown) -> Reply:
        """How it ended when its answer was lost: a change may cut the connection that asked for it and still be right.

        Raises what the change ended with, or `error` when nobody can say.
        """
        doing = "asking over a new connection what became of it"
        self.report({"t": "step", "server": self.link.name, "doing": doing})
        end, pause = _now() + self.request.confirm_s + SLACK_S, FIRST_PAUSE_S
        while _now() < end:
            await self.caller.hang_up(self.link)
            answer = None
            with suppress(Unreachable, TimeoutError):
                async with asyncio.timeout_at(end):
                    answer = await self._ask("op.status")
            if answer:
                if answer.data.get("state") == "unknown":
                    break
                ended = outcome_of(self.caller, self.link, self.op_id, answer, cancelling=False)
                if ended.outcome == "pending-confirm":
                    reply = replace(ended, data=ended.receipt["data"])
                    return await self.confirmed(reply, answer.receipt.get("finished_at"))
                if ended.outcome != "running":
                    return replace(ended, data=ended.receipt["data"])
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        error.hint += f"; what it changed is undone by itself, unless: {self._by_hand}"
        raise error

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _confirm(self, waiting: Waiting, *, reached_late: bool) -> str:
        """On the connection that is held now; what is told of it then.

        Raises RolledBack, or _Final where another attempt is no use.
        """
        pending = (await self.caller.greet(self.link)).pending == self.op_id
        failed = await self._failing_for_good(waiting) if pending else ""
        if failed:
            return await self._undone(failed, waiting)
        try:
            # Also when it waits no more: the server tells which verdict was first, and it may have been ours.
            await self._ask("safe.confirm")
            return CONFIRMED
        except RolledBack as error:
            raise self._went_back(waiting, reached_late=reached_late) from error
        except TrustError as error:
            if reply_of(error) is None:  # not the server's answer, but what is in its place
                raise
            if pending:
                raise self._waits(f"this key cannot confirm it: {error.message}", waiting) from error
        except ActionFailed:
            if pending:
                raise
        # Since a later change was made there, the server has no verdict on this one, but its receipts.
        if note := await self._ended(self._went_back(waiting, reached_late=reached_late)):
            return note
        raise self._unknown(waiting)

    async def _undone(self, failed: str, waiting: Waiting) -> str:
        """Tell the server to go back. Raises RolledBack once it has; returns what is told if somebody confirmed it."""
        self._failed_after = failed
        try:
            undone = await self._ask("safe.rollback")
        except SfError as error:
            if note := await self._ended(self._went_back(waiting, reached_late=False)):
                return f"{failed} after the change; {note}"
            if isinstance(error, (Unreachable, OutcomeUnknown)):  # it may have heard us
                raise
            why = f"{failed} after the change, and undoing it failed ({error.message})"
            raise self._waits(why, waiting) from error
        problems = undone.data.get("problems") or []
        left = f"; not all could be put back: {', '.join(map(str, problems))}" if problems else ""
        raise self._rolled_back(f"{failed} after the change, so it was undone{left}", waiting)

    async def _ended(self, gone_back: RolledBack) -> str:
        """By the server's receipts: who confirmed it, "" where it is open or the server cannot tell.

        Raises `gone_back`, or what keeps the server from answering.
        """
        try:
            told = (await self._ask("safe.show")).data
        except SfError as error:
            if reply_of(error) is None:
                raise
            return ""
        if told.get("ended") == "rolled-back":
            raise gone_back
        return f"confirmed by {told.get('by') or 'somebody else'}" if told.get("ended") == "confirmed" else ""

    async def _failing_for_good(self, waiting: Waiting) -> str:
        """What fails after a few seconds too: a service may take a moment. There must be time left to say so."""
        end = _now() + min(CHECKS_RETRIED_S, max(waiting.end - _now(), 0) / 3)
        pause = FIRST_PAUSE_S
        while (failed := await self._failing()) and _now() + pause < end:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return safe_checks.sentence(failed)

    async def _failing(self) -> dict[str, str]:
        checks = [check for check in self.safety.checks.get(self.link.name, ()) if check not in self._failed_before]
        return await safe_checks.failing(self.caller, self.link, checks, self.report)

    async def _ask(self, name: str) -> Reply:
        return await safe_checks.ask(self.caller, self.link, name, {"op": self.op_id}, self.report)

    # --- what is told ------------------------------------------------------------------------------------------------

    def _waiting(self, reply: Reply, now_ms: Any) -> Waiting:
        """By the time that the server gave, on its own clock; never more than was asked for."""
        deadline = (reply.receipt.get("safe") or {}).get("deadline")
        now = now_ms if type(now_ms) is int else reply.receipt.get("finished_at")
        left: float = self.request.confirm_s or self.safety.within_s
        if type(deadline) is int and type(now) is int:
            left = min(max(deadline - now, 0) / 1000, left)
        if self._failed_before:
            before = safe_checks.named(self._failed_before)
            note = f"failed before the change already, so it does not count: {before}"
            reply = replace(reply, notes=(*reply.notes, note))
        return Waiting(reply, _now() + left, datetime.now().astimezone() + timedelta(seconds=left))

    def _waits(self, why: str, waiting: Waiting) -> _Final:
        """Nobody has confirmed it; `why` not, "" when nobody was to."""
        until = f"{waiting.until:%H:%M:%S}"
        if not why:
            return self._final(f"waits for confirmation until {until}", waiting, hint=self._by_hand, shown=True)
        if _now() < waiting.end:
            return self._final(f"{why}; unless it is confirmed it is undone at {until}", waiting)
        return self._final(f"{why}; it was due to be undone at {until}; see sf safe status", waiting)

    def _unknown(self, waiting: Waiting) -> _Final:
        message = "it waits no more, and the server cannot tell whether it was confirmed or has gone back"
        return self._final(message, waiting, code="unknown")

    def _final(
        self, message: str, waiting: Waiting, *, code: str = "pending-confirm", hint: str = "", shown: bool = False
    ) -> _Final:
        """With what the server said; what it made once only counts when it is confirmed, and is `shown` for that."""
        lost = bool(waiting.reply.secrets) and not shown
        on = f"--on {self.link.name}"
        way_out = f"what it made cannot be shown: sf safe rollback {self.op_id} {on}, then run it again"
        error = _Final(
            message, server=self.link.name, code=code, hint=hint or (way_out if lost else f"sf safe status {on}")
        )
        data = {**waiting.reply.data, "safe": waiting.reply.receipt.get("safe")}
        error.reply = replace(waiting.reply, data=data, secrets=waiting.reply.secrets if shown else {})
        return error

    @property
    def _by_hand(self) -> str:
        return f"sf safe confirm {self.op_id} --on {self.link.name}"

    def _went_back(self, waiting: Waiting, *, reached_late: bool) -> RolledBack:
        if self._failed_after:
            return self._rolled_back(f"{self._failed_after} after the change, so it was undone", waiting)
        why = "it could not be reached over a new connection, and" if reached_late else "it was not confirmed, and"
        return self._rolled_back(f"{why} has gone back", waiting)

    def _rolled_back(self, message: str, waiting: Waiting) -> RolledBack:
        error = RolledBack(message, server=self.link.name, hint=f"sf safe show {self.op_id} --on {self.link.name}")
        error.reply = replace(waiting.reply, outcome="rolled-back", secrets={})
        return error


class _Final(OutcomeUnknown):
    """Another attempt would change nothing about it."""


def _now() -> float:
    return asyncio.get_running_loop().time()
