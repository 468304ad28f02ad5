"""`runner cron-run NAME RUN DUE TRIGGER [BY]`: one run of a job, from its start to its record. Root; its own unit.

Whoever holds the job's lock runs it. The lock is in memory and the kernel's: a crash frees it, and what then stands in
the history without an end is told as lost by the watch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cronfire
import cronjobs
import cronlog
import cronsandbox
import crontell
import cronturn
import cronunit
import cronvouch
import cronwrite
import layout
import operation
import store
import trust_store
from cronunit import Ended
from messages import Denied, Trust
from serverflow_actions import registry
from serverflow_actions.kit.cronjob import Job
from serverflow_actions.kit.scheduled import check

_LONGEST_DELAY_S = 3600
#: For the run before to end once it has been told, and for a change at work that installs this job.
_KILL_S, _INSTALL_S = 45, 120
#: While a run goes on: whether it still may.
_LOOK_S = 3
_REFUSED_S = 2
_REMOVED = "the job was removed meanwhile"
_AGAIN = ("failed", "timeout", "out-of-memory")


class Ask(NamedTuple):
    """`due` in seconds, 0 for a run that somebody asked for."""

    name: str
    run: str
    due: int
    trigger: str
    by: str


class NotRun(Exception):
    """It ends before it begins, with this outcome and for this reason."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


_Turn = tuple[cronjobs.Found, Job, cronvouch.Standing]


class Supervisor:
    """One run."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._output = cronlog.Output()
        self._started = store.now_ms()
        self._was_told = False
        self._attempts = 1
        self._found: cronjobs.Found | None = None
        self._next_look = 0.0
        self._gone = ""
        self._waiting = -1
        self.unit = cronfire.supervisor_unit(ask.name, ask.run)

    def told_to_stop(self, *_: Any) -> None:
        """SIGTERM."""
        self._was_told = True

    def stop(self) -> str:
        """Why the run has to end, "" when it has not. A newer run lays its reason down, then has systemd stop this one:
        the job's unit first, so that it may have ended before anybody tells us.
        """
        why = b""
        with contextlib.suppress(OSError):
            why = store.read_file(f"{layout.CRON_RUN}/{self._ask.run}.why") or b""
        return why.decode("utf-8", "replace") or (cronunit.STOPPED if self._was_told else self._no_more())

    def _no_more(self) -> str:
        """Why it may not go on as it began: the job was removed, or its key was revoked. A job that was changed or
        disabled ends as it began.
        """
        found = self._found
        if found and not self._gone and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            with contextlib.suppress(Exception):  # no verdict: the next look has one
                standing = cronvouch.standing(found)
                self._gone = standing.said if standing.problem == "disabled" else ""
            if not os.path.lexists(f"{layout.CRON}/{found.name}.json"):
                self._gone = _REMOVED
        return self._gone

    def perform(self) -> None:
        try:
            with self._turn(*self._may_run()) as (found, job, standing):
                self._begin(job)
                self._end(self._attempted(found, job, standing))
        except NotRun as reason:
            self._end(Ended(reason.outcome, str(reason)), has_begun=False)
        except Exception as error:  # whatever breaks here, the run gets its record
            self._end(Ended("failed", f"internal error: {type(error).__name__}: {error}"[:500]), has_begun=False)
        finally:
            self._let_next_wait()
            with contextlib.suppress(OSError):
                os.unlink(f"{layout.CRON_RUN}/{self._ask.run}.why")

    # --- before ------------------------------------------------------------------------------------------------------

    def _may_run(self) -> tuple[cronjobs.Found, cronvouch.Standing]:
        """By its file, its voucher and the trust file of this moment. Raises NotRun."""
        deadline = time.monotonic() + _INSTALL_S
        while True:
            found = cronjobs.read(self._ask.name)
            if found is None:
                raise NotRun("refused", "the job is not there any more")
            standing = cronvouch.standing(found)
            # Its file is there before its voucher: an operation may be at work between the two.
            if standing.problem != "changed" or not cronwrite.is_changing() or time.monotonic() > deadline:
                break
            self._pause()
        if standing.problem:
            cronwrite.disable(names=(found.name,), wait_s=_REFUSED_S)
            raise NotRun("refused", standing.said)
        if found.job and not found.job.enabled and self._ask.trigger != "manual":
            raise NotRun("refused", "the job was disabled meanwhile")
        self._found = found
        return found, standing

    @contextlib.contextmanager
    def _turn(self, found: cronjobs.Found, standing: cronvouch.Standing) -> Iterator[_Turn]:
        """Holding the job's lock. Raises NotRun."""
        descriptor = cronturn.opened(self._ask.name, cronturn.RUNNING)
        try:
            if not cronturn.take_soon(descriptor, self._ask.run):
                self._wait_or_not(_job(found), descriptor)
                found, standing = self._may_run()  # it may have been changed, or taken out, meanwhile
            yield found, _job(found), standing
        finally:
            os.close(descriptor)

    def _wait_or_not(self, job: Job, descriptor: int) -> None:
        """As its overlap says. Raises NotRun."""
        other = cronturn.written(descriptor)
        if job.overlap == "skip":
            raise NotRun("skipped", f"the run {other} had not ended")
        # Of those that wait there is one.
        self._waiting = cronturn.opened(job.name, cronturn.WAITING)
        if not cronturn.take(self._waiting, self._ask.run):
            raise NotRun("skipped", f"the run {other} had not ended, and another run waits for its end already")
        cronlog.append(job.name, {"t": "wait", **self._line(), "message": f"it waits for the end of the run {other}"})
        told = ""
        deadline = time.monotonic() + (_KILL_S if job.overlap == "kill" else job.timeout)
        while not cronturn.take(descriptor, self._ask.run):
            other = cronturn.written(descriptor)
            if job.overlap == "kill" and told != other:
                told = other
                self._kill(job.name, other)
            if time.monotonic() > deadline:
                raise NotRun("skipped", f"the run {other} did not end in time")
            self._pause()
        self._let_next_wait()

    def _let_next_wait(self) -> None:
        """Not before this run goes on or has its record: the watch would take it for one that was cut off."""
        if self._waiting >= 0:
            os.close(self._waiting)
            self._waiting = -1

    def _kill(self, name: str, other: str) -> None:
        """Its supervisor ends it, with all its processes, and writes down why."""
        with contextlib.suppress(OSError):
            store.write_file(f"{layout.CRON_RUN}/{other}.why", b"the next run took its place (overlap: kill)")
        _systemctl("stop", "--no-block", cronfire.supervisor_unit(name, other))

    def _pause(self, seconds: float = cronturn.PAUSE_S) -> None:
        """Raises NotRun when it is to end meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.stop() and time.monotonic() < deadline:
            time.sleep(min(cronturn.PAUSE_S, seconds))
        if self.stop():
            raise NotRun("killed", self.stop())

    def _begin(self, job: Job) -> None:
        self._started = store.now_ms()
        cronlog.append(job.name, {"t": "start", **self._line(), "message": ""})
        if self._ask.trigger == "schedule":
            crontell.of_start(job.name, self._started // 1000 - self._ask.due, job.late)

    def _line(self) -> dict[str, Any]:
        """What every line of its record has."""
        ask = self._ask
        return {"run": ask.run, "due": ask.due * 1000, "started": self._started, "trigger": ask.trigger, "by": ask.by}

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _attempted(self, found: cronjobs.Found, job: Job, standing: cronvouch.Standing) -> Ended:
        """All of them. CPU time of all together, memory of the one with the most."""
        ended = self._attempt(found, job, standing)
        for number in range(job.retries):
            if ended.outcome not in _AGAIN:
                break
            delay = min(job.retry_delay * 2**number, _LONGEST_DELAY_S)
            try:
                self._pause(delay)
                if cronjobs.read(job.name) != found:
                    raise NotRun(ended.outcome, "the job was changed or removed meanwhile")
                _, standing = self._may_run()
            except NotRun as reason:
                return ended._replace(message=f"{ended.message}; not tried again: {reason}")
            self._attempts += 1
            at = store.now_ms()
            line = {"run": self._ask.run, "attempt": self._attempts, "at": at, "message": ended.message[:500]}
            cronlog.append(job.name, {"t": "attempt", **line})
            self._output.add(f"\n--- attempt {self._attempts}, since: {ended.message}\n".encode())
            last, ended = ended, self._attempt(found, job, standing)
            ended = ended._replace(
                cpu_ms=_sum(last.cpu_ms, ended.cpu_ms), peak_bytes=_most(last.peak_bytes, ended.peak_bytes)
            )
        return ended

    def _attempt(self, found: cronjobs.Found, job: Job, standing: cronvouch.Standing) -> Ended:
        try:
            if self.stop():
                return Ended("killed", self.stop())
            if job.action:
                return self._act(found, job, standing)
            return cronunit.Attempt(job, self._ask.run, self._attempts, self.unit, self._output).perform(self.stop)
        except cronsandbox.CannotRun as error:
            return Ended("failed", str(error))
        except Exception as error:  # whatever breaks here, the run gets its record
            return Ended("failed", f"internal error: {type(error).__name__}: {error}"[:500])

    def _act(self, found: cronjobs.Found, job: Job, standing: cronvouch.Standing) -> Ended:
        """An operation of its own, with a receipt that names the one which installed the job."""
        try:
            params = check(registry.load(job.action), job.params)
        except (KeyError, ValueError) as error:
            return Ended("failed", f"{job.action} cannot be run any more: {error}")
        wish = operation.Wish(
            job.action, params, f"cron {job.name}", found.content, standing.name, standing.key,
            standing.op, job.timeout, job.timeout,
        )  # fmt: skip
        server_id = (store.read_file(layout.SERVER_ID) or b"").decode().strip()
        try:
            body = operation.perform(
                wish, trust_store.current(), server_id, trust_store.bundle_version(), self.stop, self._still
            )
        except NotRun as reason:
            return Ended(reason.outcome, str(reason))
        except Denied as denial:
            outcome = "killed" if denial.code == "killed" else "failed"
            return Ended(outcome, f"{denial.code}: {denial.message}")
        outcome = {"done": "ok", "unchanged": "ok"}.get(body["outcome"], body["outcome"])
        if outcome not in cronlog.OUTCOMES:
            outcome = "failed"
        message = body["message"] or ("" if outcome == "ok" else f"it ended as {body['outcome']}")
        if outcome == "killed":
            message = self.stop() or message
        self._output.add(f"{job.action}: {body['outcome']} {message}\n".encode())
        return Ended(outcome, message, body["exit"]["code"], body["exit"]["signal"], op=body["op_id"])

    def _still(self) -> Trust:
        """The trust file of now, when the job may still run by it, and is as it was. Raises NotRun."""
        began = self._found
        found, _ = self._may_run()
        if found != began:
            raise NotRun("killed", "the job was changed meanwhile")
        return trust_store.current()

    # --- after -------------------------------------------------------------------------------------------------------

    def _end(self, ended: Ended, has_begun: bool = True) -> None:
        ask = self._ask
        line = {
            **self._line(), "ended": store.now_ms(), "outcome": ended.outcome, "exit": ended.exit,
            "signal": ended.signal, "cpu_ms": ended.cpu_ms, "peak_bytes": ended.peak_bytes, "attempts": self._attempts,
            "op": ended.op, "message": ended.message[:1000],
        }  # fmt: skip
        if has_begun:
            with contextlib.suppress(OSError):  # a full disk keeps no output
                cronlog.keep_output(ask.name, ask.run, self._output)
        try:
            cronlog.append(ask.name, {"t": "end", **line})
        finally:
            if self._gone != _REMOVED:  # that was somebody's wish
                crontell.of_end(ask.name, line, self._output.end())


def _job(found: cronjobs.Found) -> Job:
    if found.job is None:
        raise NotRun("refused", "its file is damaged")
    return found.job


def _systemctl(*words: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            ["systemctl", *words], stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, capture_output=True, check=False,
            timeout=30,
        )  # fmt: skip


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _most(one: int | None, other: int | None) -> int | None:
    return max([each for each in (one, other) if each is not None], default=None)


def main(name: str, run: str, due: str, trigger: str, by: str = "") -> None:
    """The unit's whole life."""
    supervisor = Supervisor(Ask(name, run, int(due), trigger, by))
    signal.signal(signal.SIGTERM, supervisor.told_to_stop)
    supervisor.perform()
