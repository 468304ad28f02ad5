"""What servers tell of jobs and their runs. `sf cron run` starts one and waits; `sf cron next` asks nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit import schedule

from ..errors import ActionFailed, ConfigError, OutcomeUnknown, SfError, Unreachable
from ..model.cronrun import GOOD, OPEN, records, told
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from ..plan import next_runs
from .actions import read, run_action
from .cron import stanza
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import CronJob
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: As many runs as servers keep.
_ALL = 1000
#: Between two looks whether a run has ended.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.3, 5.0
#: A unit is started for it, and writes the run's first line.
_BEGINS_WITHIN_S = 30
#: Codes of errors that say the same as a run's outcome; others are plain failures.
_CODES = ("timeout", "out-of-memory", "killed")


async def coming(workspace: Workspace, name: str, count: int) -> CommandResult:
    """The next runs by the job's clock and by its servers' clocks: UTC, where fleet.toml says nothing else."""
    job, now = stanza(workspace, name), int(time.time())
    zone, when = _zone(workspace, job), schedule.parse(job.schedule)
    runs = next_runs.next_runs(when, zone, now, count)
    theirs = [workspace.fleet.servers[server].timezone or "UTC" for server in workspace.select(job.on)]
    zones = list(dict.fromkeys((zone, *theirs)))
    rows = [{"at": rfc3339(at * 1000), "times": {each: next_runs.local(at, each) for each in zones}} for at in runs]
    notes = next_runs.clock_notes(when, zone, now, runs)
    if not job.enabled:
        notes.insert(0, f"cron.{name} is disabled, and none of this happens: sf cron enable {name}")
    data = {"job": name, "schedule": job.schedule, "timezone": zone, "runs": rows}
    return CommandResult(workspace.label, data=data, notes=tuple(notes))


async def list_jobs(workspace: Workspace, *, selector: str | None, report: Report) -> CommandResult:
    """What fleet.toml asks for, and what the servers have."""
    names = workspace.select(selector or "all") if workspace.servers else []
    found = await read(workspace, "cron.list", selector or "all", {}, report) if names else CommandResult()
    notes: list[str] = []
    jobs = [
        _wanted(workspace, name, job, on, notes)
        for name, job in sorted(workspace.fleet.cron.items())
        if (on := [server for server in workspace.select(job.on) if server in names])
    ]
    return replace(found, fleet=workspace.label, data={"jobs": jobs}, notes=(*found.notes, *notes))


async def show(workspace: Workspace, name: str, *, selector: str | None, report: Report) -> CommandResult:
    """One job as fleet.toml has it, and as each server does."""
    on = _where(workspace, name, selector)
    found = await read(workspace, "cron.show", on, {"name": name}, report)
    job = workspace.fleet.cron.get(name)
    if not job:
        return replace(found, data={})
    notes: list[str] = []
    wanted = _wanted(workspace, name, job, workspace.select(job.on), notes)
    return replace(found, data={"job": wanted}, notes=(*found.notes, *notes))


async def history(
    workspace: Workspace, name: str, *, selector: str | None, failed: bool, limit: int, report: Report
) -> CommandResult:
    """The newest runs of a job on each server; with `failed` those alone that ended, and not well."""
    params = {"name": name, "limit": _ALL if failed else limit}
    found = await read(workspace, "cron.history", _where(workspace, name, selector), params, report)
    return _each(found, lambda server: _some(server, failed, limit))


async def logs(workspace: Workspace, name: str, run_id: str, *, selector: str | None, report: Report) -> CommandResult:
    """What a run wrote; "" is the last one."""
    params = {"name": name, **({"run": run_id} if run_id else {})}
    found = await read(workspace, "cron.logs", _where(workspace, name, selector), params, report)
    if run_id and any(not server.error for server in found.servers):
        # A run is of one server. That the job's other servers do not have it is no failure.
        return replace(found, servers=tuple(server for server in found.servers if not _lacks_it(server)))
    return found


async def run(
    workspace: Workspace,
    name: str,
    *,
    selector: str | None,
    wait: bool,
    wait_s: int | None,
    approve: Callable[[CommandResult], bool],
    lock_wait_s: int,
    report: Report,
) -> CommandResult:
    """Start a job now; with `wait`, a server's result is how the run ended, and what it wrote."""
    started = await run_action(
        workspace,
        "cron.run",
        _where(workspace, name, selector),
        {"name": name},
        secrets={},
        plan=False,
        approve=approve,
        timeout_s=None,
        lock_wait_s=lock_wait_s,
        report=report,
    )
    runs = {
        s.name: str(s.reply.data["run"]) for s in started.servers if s.reply and not s.error and "run" in s.reply.data
    }
    if not wait or not runs:
        return started
    over: set[str] = set()  # servers that gave a verdict
    try:
        async with workspace.caller() as caller:

            async def work(link: Link) -> Reply:
                try:
                    reply = await _ended(caller, link, name, runs[link.name], wait_s, report)
                except ActionFailed:
                    over.add(link.name)
                    raise
                over.add(link.name)
                return reply

            ended = {server.name: server for server in await workspace.on_all(list(runs), work, report)}
    except (asyncio.CancelledError, KeyboardInterrupt):
        for server, run_id in runs.items():
            if server not in over:
                report({"t": "left", "text": f"run {run_id} goes on: {_look(name, server)}"})
        raise
    return _each(started, lambda server: ended.get(server.name, server))


def _where(workspace: Workspace, name: str, selector: str | None) -> str:
    """The servers that are asked: those that are named, else the job's own. Raises UsageError for an unknown job."""
    return selector or stanza(workspace, name, hint="if a server has it: --on SERVER; else: sf cron list").on


def _look(name: str, server: str) -> str:
    """How to find out about a run that nobody waits for any more."""
    return f"sf cron history {name} --on {server}"


def _lacks_it(server: ServerResult) -> bool:
    """Whether a server was asked for a run, and has it not, or not even the job."""
    return isinstance(server.error, ActionFailed) and server.error.code == ActionFailed.default_code


def _zone(workspace: Workspace, job: CronJob) -> str:
    return job.timezone or workspace.fleet.timezone


def _wanted(workspace: Workspace, name: str, job: CronJob, on: list[str], notes: list[str]) -> dict[str, Any]:
    """A job as fleet.toml asks for it. A zone that does not exist is told in `notes`: it must not hide other jobs."""
    import shlex

    zone, runs = _zone(workspace, job), []
    try:
        if job.enabled:
            runs = next_runs.next_runs(schedule.parse(job.schedule), zone, int(time.time()), 1)
    except ConfigError as error:
        notes.append(f"cron.{name}: {error.message}")
    pairs = [f"{key}={value}" for key, value in job.params.items()]
    return {
        "name": name,
        "on": on,
        "schedule": job.schedule,
        "timezone": zone,
        "enabled": job.enabled,
        "does": f"{job.app}: {shlex.join(job.command)}" if job.app else " ".join([job.action or "", *pairs]),
        "next": rfc3339(runs[0] * 1000) if runs else None,
    }


def _each(result: CommandResult, change: Callable[[ServerResult], ServerResult]) -> CommandResult:
    return replace(result, servers=tuple(map(change, result.servers)))


def _some(server: ServerResult, failed: bool, limit: int) -> ServerResult:
    if server.error or not server.reply:
        return server
    runs = [
        record
        for record in records(server.reply.data)
        if not failed or str(record.get("outcome") or "") not in (*GOOD, *OPEN)
    ]
    return replace(server, reply=replace(server.reply, data={**server.reply.data, "runs": runs[:limit]}))


async def _ended(caller: Caller, link: Link, name: str, run_id: str, wait_s: int | None, report: Report) -> Reply:
    """Look until the run has ended. Raises ActionFailed when it did not end well, OutcomeUnknown for all else: whoever
    gets another error takes the run for one that was not started, and starts it again.
    """
    look = _look(name, link.name)
    report({"t": "step", "server": link.name, "doing": f"run {run_id} of {name}"})
    begun, pause = time.monotonic(), _FIRST_PAUSE_S
    try:
        async with caller.hold(link):
            while not (reply := await _over(caller, link, name, run_id, time.monotonic() - begun, report)):
                if wait_s is not None and time.monotonic() + pause > begun + wait_s:
                    break
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    except Unreachable as error:
        raise OutcomeUnknown(
            f"run {run_id} goes on, but nobody can be asked: {error.message}", server=link.name, hint=look
        ) from None
    except SfError as error:
        if error.code == "not-granted":
            look = f"a key needs cron.logs to wait for a run; without: --no-wait\n{look}"
        raise OutcomeUnknown(
            f"run {run_id} was started, and it is not known how it ends: {error.message}", server=link.name, hint=look
        ) from None
    if not reply:
        raise OutcomeUnknown(
            f"run {run_id} has not ended yet, and goes on", server=link.name, hint=look, code="still-running"
        )
    outcome = str(reply.data["outcome"])
    if outcome in GOOD:
        return reply
    failure = ActionFailed(
        f"the run ended: {told(reply.data)}",
        server=link.name,
        hint=f"sf cron logs {name} --run {run_id} --on {link.name}",
        code=outcome if outcome in _CODES else "",
    )
    failure.reply = replace(reply, outcome="failed")
    raise failure


async def _over(caller: Caller, link: Link, name: str, run_id: str, waited_s: float, report: Report) -> Reply | None:
    """The record of a run with its output; None while it has no end. At first the server may not know it yet."""
    try:
        reply = await _ask(caller, link, "cron.logs", {"name": name, "run": run_id}, report)
    except ActionFailed:
        if waited_s > _BEGINS_WITHIN_S:
            raise
        return None
    record = reply.data.get("record")
    if not isinstance(record, Mapping) or str(record.get("outcome") or "") in OPEN:
        return None
    output = {key: value for key, value in reply.data.items() if key not in ("name", "run", "record")}
    return replace(reply, data={"name": name, **record, "run": run_id, "output": output})


async def _ask(caller: Caller, link: Link, action: str, params: Mapping[str, Any], report: Report) -> Reply:
    declared = registry.load(action)
    request = Request(action, params, timeout_s=declared.timeout, read_only=True)
    return await caller.call(link, request, new_ulid(), declared.version, report)
