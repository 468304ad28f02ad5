"""`runner watch`, by a timer and not by cron: which runs did not come and why, which never end, which were cut off.

A look covers the time since the last one. That one's heartbeat and the start of process 1 tell a host that was down
from a cron that did not fire.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import time
from typing import Any, NamedTuple

import alerts
import checks
import cronfire
import cronjobs
import cronlog
import crontell
import cronturn
import cronvouch
import cronwrite
import journal
import layout
import store
from serverflow_actions.kit.cronjob import Job
from serverflow_actions.kit.schedule import parse

#: Until then a line may yet fire, and its run be about to begin.
SETTLED_S = cronfire.GRACE_S + 60
HANGING_S = 60
#: What the wall clock may run ahead of the machine's own between two looks: adjtimex(2) allows 500 ppm.
_DRIFT_S = 30
#: Between the start of process 1 and that of cron.
_STARTING_S = 60
_MOST = 1000
#: Far longer than it takes until a run that did not come counts as missed.
_REMEMBERED_S, _MOST_GAPS = 6 * 3600, 50
_DOWN = "the host was down"
_UNIT = "cron.service"


class Look(NamedTuple):
    """When somebody looked: by the wall clock, and by the machine's own, which stands still while it sleeps
    (CLOCK_MONOTONIC). When process 1 had started: by the wall clock, and by one that does not (CLOCK_BOOTTIME). In
    seconds. `marker` differs after each start of the host; "" where it is not known.
    """

    at: int
    ticks: float
    boot: int
    boot_ticks: float
    marker: str = ""


class Gap(NamedTuple):
    """What falls after `since` and up to `until` did not run, and this is why."""

    since: int
    until: int
    reason: str


class Past(NamedTuple):
    """The look before, and the gaps of the last hours: what was due in one is judged by a later look."""

    before: Look
    gaps: list[Gap]


def now() -> Look:
    at, since_boot = cronjobs.now(), time.clock_gettime(time.CLOCK_BOOTTIME)
    with open("/proc/1/stat", "rb") as file:
        # Fields after the name, which may hold anything: the 22nd of all is its start (proc_pid_stat(5)).
        started = int(file.read().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    marker = ""
    with contextlib.suppress(OSError):  # /run is full
        marker = store.boot_marker()
    return Look(at, time.monotonic(), int(at - (since_boot - started)), started, marker)


def watch() -> None:
    """All of it; what fails in one part keeps no other from being done."""
    with cronjobs.locked(f"{layout.CRON_RUN}/watch.lock"):
        look = now()
        past = _past(look)
        _guarded(cronwrite.disable)  # first: `sf plan` has to show what people are told of
        for found in cronjobs.everything():
            _guarded(_look_at, found, look, past)
        _guarded(_check_crontab)
        _guarded(_tidy)
        _guarded(_keep, look, past)
    alerts.resume()  # in a unit of its own: here it would hold us up


def _guarded(part: Any, *arguments: Any) -> None:
    try:
        part(*arguments)
    except Exception as error:
        journal.note(f"watch, {part.__name__.strip('_')}: {type(error).__name__}: {error}")


def _past(look: Look) -> Past:
    """The look before is this one where there was none, or the clock was set back since."""
    try:
        found = json.loads(store.read_file(_heartbeat()) or b"null")
        before, gaps = Look(*found["look"]), [Gap(*gap) for gap in found["gaps"]]
    except (ValueError, TypeError, KeyError):
        return Past(look, [])
    return following(look, before if before.at <= look.at else look, gaps)


def following(look: Look, before: Look, gaps: list[Gap]) -> Past:
    """With the gap between the two, if there is one. Pure."""
    found = [gap for gap in gaps if gap.until > look.at - _REMEMBERED_S]
    if _was_started(look, before):
        found.append(Gap(before.at, look.boot + _STARTING_S, _DOWN))
    elif _was_put_forward(look, before):
        found.append(Gap(before.at, look.at, "the clock was put forward, or the machine was paused"))
    return Past(before, found[-_MOST_GAPS:])


def _was_started(look: Look, before: Look) -> bool:
    """Whether the host was, in between. On a machine process 1 always starts at zero, and may soon have run for longer
    than it had before; a container whose /run outlives it keeps its marker.
    """
    is_another = bool(before.marker and look.marker) and before.marker != look.marker
    return is_another or abs(look.boot_ticks - before.boot_ticks) > 1 or look.ticks < before.ticks


def _heartbeat() -> str:
    return f"{layout.CRON_STATE}/heartbeat"


def _keep(look: Look, past: Past) -> None:
    os.makedirs(layout.CRON_STATE, mode=0o700, exist_ok=True)
    store.write_file(_heartbeat(), json.dumps({"look": look, "gaps": past.gaps}).encode())


# --- a job -----------------------------------------------------------------------------------------------------------


def _look_at(found: cronjobs.Found, look: Look, past: Past) -> None:
    name = found.name
    standing = cronvouch.standing(found)
    _resolve(found, standing)
    if standing.problem or found.job is None or not found.job.enabled:
        with cronjobs.alone(name):
            cronjobs.set_state(name, watched=look.at)
        _look_at_runs(name, found.job, look)
        return
    _look_at_runs(name, found.job, look)
    _look_for_missed(found.job, standing, look, past)


def _resolve(found: cronjobs.Found, standing: cronvouch.Standing) -> None:
    """What is over of what cronwrite.disable has told."""
    over = ["cron.changed"] if found.job else []
    over += [] if standing.problem else ["cron.disabled"]
    for kind in over:
        alerts.emit(kind, f"{kind}/{found.name}", f"Cron job {found.name} is as it was installed", state="resolved")


def _look_at_runs(name: str, job: Job | None, look: Look) -> None:
    """Those that have not ended: one at most goes on, the rest was cut off."""
    # In this order: one that goes on or ends meanwhile is seen as it was, not as lost.
    unended = [run for run in cronlog.runs(name) if run["outcome"] == "running"]
    if not unended:
        return
    waits = cronturn.holder(name, cronturn.WAITING)
    holder = cronturn.holder(name)
    current = {run["run"]: run["outcome"] for run in cronlog.runs(name)}
    for run in unended:
        if current.get(run["run"]) != "running" or run["run"] == waits != holder:
            continue
        if run["run"] == holder:
            if job:
                _look_whether_it_hangs(name, job, run, look)
        else:
            _lose(name, run)


def _look_whether_it_hangs(name: str, job: Job, run: dict[str, Any], look: Look) -> None:
    begun = run.get("attempt_at") or run["started"]
    late = look.at - begun // 1000 - job.timeout
    following = next(parse(job.schedule).following(run["started"] // 1000, job.timezone), None)
    if late > HANGING_S:
        text = f"the run {run['run']} goes on {late} s after its timeout of {job.timeout} s"
    elif job.enabled and following is not None and following <= look.at:
        text = f"the run {run['run']}, which began {alerts.rfc3339(run['started'] // 1000)}, still goes on"
    else:
        return
    title = f"Cron job {name} does not end"
    alerts.emit("cron.hanging", f"cron.hanging/{name}", title, text, {"run": run["run"]}, seen_again=True)


def _lose(name: str, run: dict[str, Any]) -> None:
    """It has a start and no end, and nobody works on it: the power failed, or its supervisor was killed."""
    at = store.now_ms()
    message = "it was cut off: the server went down, or its supervisor was killed"
    line = {
        **{key: run[key] for key in ("run", "due", "started", "attempts", "trigger", "by")},
        "ended": at, "outcome": "lost", "exit": None, "signal": None, "message": message,
    }  # fmt: skip
    cronlog.append(name, {"t": "end", **line})
    for left in glob.glob(f"{layout.CRON_RUN}/{glob.escape(run['run'])}-*"):
        shutil.rmtree(left, ignore_errors=True)
    crontell.of_end(name, line, "")


# --- runs that did not come ------------------------------------------------------------------------------------------


def _look_for_missed(job: Job, standing: cronvouch.Standing, look: Look, past: Past) -> None:
    """Since the last look, and since it is as it is. A run that came leaves a record, whatever became of it."""
    until = look.at - SETTLED_S
    state = cronjobs.state(job.name)
    watched, judged = state.get("watched", 0), state.get("judged", 0)
    if watched > look.at:
        watched = until  # the clock was set back
    came, known = cronlog.covered(job.name)
    since = max(watched, known, _caught_up(job.name, look), standing.since // 1000, int(cronjobs.written_at(job.name)))
    if judged <= look.at and _was_put_forward(look, past.before):
        since = max(since, judged)  # it had been set back for a while, and this was looked at before
    if since < until:
        missed = [due for due in parse(job.schedule).between(since, until, job.timezone, _MOST) if due not in came]
        if missed:
            run = store.new_id() if job.catch_up else ""
            _tell_of_missed(job, missed, run, look, past.gaps)
            if run:
                _catch_up(job.name, missed[-1], run)
                return  # its record is what says that it came: where the power fails before that, it is not on the disk
    # Last: after a crash it is looked for again.
    watched = max(until, min(watched, look.at))
    with cronjobs.alone(job.name):
        cronjobs.set_state(job.name, watched=watched, judged=max(watched, judged))


def _catch_up(name: str, due: int, run: str) -> None:
    cronfire.launch(name, due, "catch-up", "", run)
    # In memory: until its record is there, which a busy machine may take its time for.
    store.write_file(_catching_up(name), str(due).encode())


def _caught_up(name: str, look: Look) -> int:
    """Up to when it is: one run stands for all that were missed before it. 0 for never."""
    times = [run["due"] // 1000 for run in cronlog.runs(name) if run["trigger"] == "catch-up"]
    with contextlib.suppress(ValueError):
        times.append(int(store.read_file(_catching_up(name)) or b"0"))
    # One that is yet to come was noted before the clock was set back.
    return max((due for due in times if due <= look.at), default=0)


def _catching_up(name: str) -> str:
    return f"{cronjobs.in_memory(name)}/caught-up"


def _tell_of_missed(job: Job, missed: list[int], run: str, look: Look, gaps: list[Gap]) -> None:
    """`run` is the one that is to make up for them, "" for none. Before it: it may soon be over, and say so."""
    times = ", ".join(map(alerts.rfc3339, missed[-5:]))
    more = f" and {len(missed) - 5} before" if len(missed) > 5 else ""
    sign = _last_sign(job.name, look)
    reasons = sorted({reason(due, gaps, sign) for due in missed})
    if any("cron did not" in each for each in reasons):
        (state,) = checks.unit_states([_UNIT])
        reasons = [f"{each} ({_UNIT} is {state})" if "cron did not" in each else each for each in reasons]
    text = f"Due {times}{more}: {'; '.join(reasons)}."
    severity = None
    if run:
        text += f" It runs now instead, once (run {run})."
        severity = "warning"
    data = {"missed": len(missed), "first": missed[0], "last": missed[-1], "reason": "; ".join(reasons)}
    title = f"Cron job {job.name} did not run" + (f" {len(missed)} times" if len(missed) > 1 else "")
    alerts.emit("cron.missed", f"cron.missed/{job.name}", title, text, data, severity=severity)


def reason(due: int, gaps: list[Gap], sign: int) -> str:
    """Why nothing came at that time. `sign` is the last sign of life before process 1 started anew. Pure."""
    for gap in reversed(gaps):
        since = max(gap.since, sign) if gap.reason == _DOWN and sign < gap.until else gap.since
        if since < due <= gap.until:
            return gap.reason
    return "cron did not fire"


def _was_put_forward(look: Look, before: Look) -> bool:
    """The clock, since the look before; or the machine slept."""
    return look.at - before.at - (look.ticks - before.ticks) > _DRIFT_S


def _last_sign(name: str, look: Look) -> int:
    """The last that a run of this job wrote down before the host was started."""
    times = [max(run["started"], run["ended"]) // 1000 for run in cronlog.runs(name)]
    return max((at for at in times if at < look.boot), default=0)


# --- the crontab, and what is left over ------------------------------------------------------------------------------


def _check_crontab() -> None:
    """What fires the jobs has to be what follows from them."""
    if not cronjobs.everything() and not os.path.lexists(layout.CRONTAB):
        return
    with cronwrite.undisturbed() as is_free:
        if not is_free:
            return  # a change may be at work on it
        is_ours = cronwrite.mend_crontab()
    kind, key = "cron.changed", f"cron.changed/{layout.CRONTAB}"
    if is_ours:
        alerts.emit(kind, key, f"{layout.CRONTAB} is as it was installed", state="resolved")
    else:
        text = "Jobs may not fire as they should. Apply one of them again: sf apply --only cron"
        alerts.emit(kind, key, f"{layout.CRONTAB} was changed by hand", text, seen_again=True)


def _tidy() -> None:
    """A history outlives its job for as long as it is kept; what was told of a job that is gone is over."""
    here = {found.name for found in cronjobs.everything()}
    kept = f"{layout.CRON_STATE}/jobs"
    for name in os.listdir(kept) if os.path.isdir(kept) else ():
        with contextlib.suppress(OSError):
            cronlog.tidy(name)
        if name not in here:
            _look_at_runs(name, None, now())
    for key in alerts.open_keys():
        kind, _, name = key.partition("/")
        if kind.startswith("cron.") and name not in here and not name.startswith("/"):
            alerts.emit(kind, key, f"Cron job {name} was removed", state="resolved")
