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
from .safe_ends import Final, listed, told_late, with_problems

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from .safe import Safety

#: What is still worth waiting for after the deadline: the server's timer, what it puts back, sshd's own start.
SLACK_S = 30
CHECKS_RETRIED_S = 10
TOLD_WITHIN_S = 10
#: A connection that says nothing more is given up for a newer one.
ATTEMPT_S = 60
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
CONFIRMED = "confirmed over a new connection"
UNTOLD = "its answer was lost, and this key may not ask for it: what it changed and what it made is not shown"


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
    #: By the loop's clock: when its answer was lost, and with it the server's deadline.
    _lost_at: float | None = None

    async def check_before(self) -> None:
        """What fails already is not the change's doing, which may repair it. Raises what `Caller.call` does."""
        self._failed_before = await self._failing()

    async def confirmed(self, reply: Reply, now_ms: int | None = None) -> Reply:
        """Confirm over a new connection, however many it takes until the server's time is over.

        `now_ms` is the server's clock where `reply` is not fresh. Raises RolledBack or OutcomeUnknown.
        """
        waiting = self._waiting(reply, now_ms)
        if not self.safety.confirm:
            waits = self._waits("", waiting)
            if self.safety.several:  # all are told of together, maybe after the deadline of this one
                self.report({"t": "note", "server": self.link.name, "text": f"{waits.message}: {self._by_hand}"})
            raise waits
        self.report({"t": "step", "server": self.link.name, "doing": "confirming over a new connection"})
        end, pause, trouble = waiting.end + SLACK_S, FIRST_PAUSE_S, ""
        while _now() < end:
            await self.caller.hang_up(self.link)
            try:
                async with asyncio.timeout_at(min(end, _now() + ATTEMPT_S)), self.caller.hold(self.link):
                    notes = await self._confirm(waiting, reached_late=bool(trouble))
                return self._kept(waiting.reply, *notes)
            except (RolledBack, Final):
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
        self._lost_at = _now()
        end, pause, trouble = _now() + self.request.confirm_s + SLACK_S, FIRST_PAUSE_S, ""
        while _now() < end:
            await self.caller.hang_up(self.link)
            try:
                async with asyncio.timeout_at(end):
                    answer = await self._ask("op.status")
            except TimeoutError:
                trouble = trouble or "no answer"
            except SfError as refusal:
                trouble = refusal.message
                if reply_of(refusal) is not None and (found := await self._unasked(end)):
                    return found
            else:
                trouble = ""
                if answer.data.get("state") == "unknown":
                    break
                try:
                    ended = outcome_of(self.caller, self.link, self.op_id, answer, cancelling=False)
                except SfError as failed:
                    if isinstance(failed, OutcomeUnknown):
                        failed.hint = failed.hint or error.hint
                    if isinstance(failed, OutcomeUnknown) or reply_of(failed) is not None:
                        raise
                    trouble = failed.message  # of what it ended with there is no word
                    break
                if ended.outcome == "pending-confirm":
                    reply = replace(ended, data=ended.receipt["data"])
                    return await self.confirmed(reply, answer.receipt.get("finished_at"))
                if ended.outcome != "running":
                    return replace(ended, data=ended.receipt["data"])
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        error.message += f" ({trouble})" if trouble else ""
        error.hint += f"; what it changed is undone by itself, unless: {self._by_hand}"
        raise error

    async def _unasked(self, end: float) -> Reply | None:
        """For a key that may not ask: HELLO says whether it waits, and whoever made a change may confirm it and hear
        how it ended. None while neither says anything of it. Raises what `confirmed` does.
        """
        reply = Reply(self.op_id, "pending-confirm", notes=(UNTOLD,))
        try:
            async with asyncio.timeout_at(end), self.caller.hold(self.link):
                waits = (await self.caller.greet(self.link)).pending == self.op_id
                if not waits:
                    # Over a connection that is older than what it would confirm: this only tells how it ended.
                    await self._ask("safe.confirm")
        except RolledBack as error:
            raise await self._seen(self._went_back(self._waiting(reply, None), reached_late=True)) from error
        except (SfError, TimeoutError):
            return None
        return await self.confirmed(reply) if waits else self._kept(reply, "it was confirmed")

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _confirm(self, waiting: Waiting, *, reached_late: bool) -> tuple[str, ...]:
        """On the connection that is held now; what is told of it then.

        Raises RolledBack, or Final where another attempt is no use.
        """
        pending = (await self.caller.greet(self.link)).pending == self.op_id
        failed = await self._failing_for_good(waiting) if pending else ""
        if failed:
            return (await self._undone(failed, waiting),)
        try:
            # Also when it waits no more: the server tells which verdict was first, and it may have been ours.
            left = listed((await self._ask("safe.confirm")).data.get("left"))
            return (CONFIRMED, f"it counts, but was not finished: {left}") if left else (CONFIRMED,)
        except RolledBack as error:
            raise await self._seen(self._went_back(waiting, reached_late=reached_late)) from error
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
            return (note,)
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
        raise with_problems(self._went_back(waiting, reached_late=False), undone.data)

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
            raise with_problems(gone_back, told)
        return f"confirmed by {told.get('by') or 'somebody else'}" if told.get("ended") == "confirmed" else ""

    async def _seen(self, gone_back: RolledBack) -> RolledBack:
        """With what could not be put back, where the server tells us."""
        with suppress(SfError, TimeoutError):
            async with asyncio.timeout(TOLD_WITHIN_S):
                with_problems(gone_back, (await self._ask("safe.show")).data)
        return gone_back

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
        return await safe_checks.failing(self.caller, self.link, checks, self.report, key=self.safety.key)

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
        elif self._lost_at is not None:
            left = max(left - (_now() - self._lost_at), 0)
        if self._failed_before:
            before = safe_checks.named(self._failed_before)
            note = f"failed before the change already, so it does not count: {before}"
            reply = replace(reply, notes=(*reply.notes, note))
        return Waiting(reply, _now() + left, datetime.now().astimezone() + timedelta(seconds=left))

    def _waits(self, why: str, waiting: Waiting) -> Final:
        """Nobody has confirmed it; `why` not, "" when nobody was to."""
        until = f"{waiting.until:%H:%M:%S}"
        late = f"it was due to be undone at {until}; see sf safe status"
        if why:
            in_time = f"unless it is confirmed it is undone at {until}"
            waits = self._final(f"{why}; {in_time}", waiting)
        else:
            in_time = f"waits for confirmation until {until}"
            waits = self._final(in_time, waiting, hint=self._by_hand, shown=True)
        waits.end, waits.in_time, waits.late = waiting.end, in_time, late
        told_late(waits)
        return waits

    def _unknown(self, waiting: Waiting) -> Final:
        message = "it waits no more, and the server cannot tell whether it was confirmed or has gone back"
        return self._final(message, waiting, code="unknown")

    def _final(
        self, message: str, waiting: Waiting, *, code: str = "pending-confirm", hint: str = "", shown: bool = False
    ) -> Final:
        """With what the server said; what it made once only counts when it is confirmed, and is `shown` for that."""
        lost = bool(waiting.reply.secrets) and not shown
        on = f"--on {self.link.name}"
        way_out = f"what it made cannot be shown: sf safe rollback {self.op_id} {on}, then run it again"
        hint = hint or (way_out if lost else f"sf safe show {self.op_id} {on}")
        error = Final(message, server=self.link.name, code=code, hint=hint)
        data = {**waiting.reply.data, "safe": waiting.reply.receipt.get("safe")}
        error.reply = replace(waiting.reply, data=data, secrets=waiting.reply.secrets if shown else {})
        return error

    def _kept(self, reply: Reply, *notes: str) -> Reply:
        self.report({"t": "confirmed", "server": self.link.name})
        return replace(reply, outcome="done", notes=(*reply.notes, *notes))

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


def _now() -> float:
    return asyncio.get_running_loop().time()
