"""What this server itself writes about jobs: the crontab; and into the file of a job that may not run, that it is
disabled and why. Then `sf plan` shows it, and somebody can answer for it anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import Any

import alerts
import armed
import cronjobs
import cronvouch
import journal
import layout
import snapshots
import store
import written

#: By a clock that is wrong keys have expired, until NTP has set it: for so long that has to hold before it is written
#: down.
_BELIEVED_S = 86_400


@contextlib.contextmanager
def undisturbed(wait_s: float = 0) -> Iterator[bool]:
    """Holding the server's lock; False where a change is at work, or waits for its confirmation and may go back."""
    try:
        lock = store.take_lock("server", wait_s, {"op_id": "", "action": "cron", "actor": "", "since": store.now_ms()})
    except store.Busy:
        yield False
        return
    try:
        yield not armed.pending()
    finally:
        os.close(lock)


def is_changing() -> bool:
    """Whether an operation holds the server's lock."""
    try:
        lock = store.take_lock("server", 0, {"op_id": "", "action": "cron", "actor": "", "since": store.now_ms()})
    except store.Busy:
        return True
    os.close(lock)
    return False


def disable(trust: Any = None, names: Collection[str] | None = None, wait_s: float = 0) -> list[str]:
    """Disable the jobs that may not run by this trust file, or else the one in force, and tell of them; of these names
    only, or of all. Returns their names: none while a change is at work. None of them runs anyway, and the watch comes
    again.
    """
    stopped = []
    with undisturbed(wait_s) as is_free:
        for found in cronjobs.everything() if is_free else ():
            if names is not None and found.name not in names:
                continue
            try:
                standing = cronvouch.standing(found, trust)
            except Exception as error:  # of one job, and no verdict
                journal.note(f"whether the job {found.name} may run is not known: {error}")
                continue
            with contextlib.suppress(OSError, ValueError):  # it waits in its file, and does not run
                standing = _believed(found.name, standing)
            if standing.problem:
                _stop(found, standing)
                stopped.append(found.name)
        if stopped:
            with contextlib.suppress(OSError, ValueError):
                mend_crontab()
    return stopped


def _believed(name: str, standing: cronvouch.Standing) -> cronvouch.Standing:
    """With the expiry of a key as something that lasts, once it has been seen for long enough. Then it is written down,
    since only so a plan shows it, and somebody else can answer for the job.
    """
    now, since = cronjobs.now(), cronjobs.state(name).get("expired", 0)
    kept = (since if 0 < since <= now else now) if standing.expired else 0
    if kept != since:
        with cronjobs.alone(name):
            cronjobs.set_state(name, expired=kept)
    return standing._replace(lasts=standing.lasts or (standing.expired and now - kept >= _BELIEVED_S))


def _stop(found: cronjobs.Found, standing: cronvouch.Standing) -> None:
    """In its file first. What a full disk does not take the check before each run has to make up for."""
    text = standing.said
    if found.job and not found.job.disabled_because and standing.lasts:
        job = found.job._replace(enabled=False, disabled_because=standing.said)
        try:
            path = f"{layout.CRON}/{found.name}.json"
            kept = _kept(path) if standing.problem == "changed" else ""
            write(path, job.as_json().encode(), 0o600)
            text += f". What it was is kept as {kept}" if kept else ""
        except OSError as error:
            journal.note(f"the job {found.name} cannot be disabled in its file: {error.strerror}")
    kind, words = ("cron.disabled", "is disabled") if found.job else ("cron.changed", "is damaged")
    alerts.emit(kind, f"{kind}/{found.name}", f"Cron job {found.name} {words}", text, seen_again=True)


def _kept(path: str) -> str:
    """Where a copy of it lies now; "" for what we wrote ourselves."""
    return "" if _fingerprint(path) == written.known().get(path) else written.keep_aside(path)


# --- the crontab -----------------------------------------------------------------------------------------------------


def crontab() -> str:
    """What it has to be now. Raises ValueError."""
    from serverflow_actions.kit import crontab as text
    from serverflow_actions.kit.schedule import zone_named

    jobs = []
    for found in cronjobs.everything():
        with contextlib.suppress(ValueError):
            if found.job:
                zone_named(found.job.timezone)
                jobs.append(found.job)
    return text.render(jobs, cronjobs.server_zone())


def mend_crontab() -> bool:
    """Whether it is ours. One that we wrote, and that is right no more (a job was disabled, the server's time zone was
    changed), is written anew. Under the server's lock. Raises OSError.
    """
    right = crontab().encode() if cronjobs.everything() else b""
    found = store.read_file(layout.CRONTAB) or b""
    if found == right:
        return True
    fingerprint = _fingerprint(layout.CRONTAB)
    if not fingerprint or fingerprint != written.known().get(layout.CRONTAB):
        return False
    write(layout.CRONTAB, right, 0o600)
    return True


def write(path: str, content: bytes, mode: int) -> None:
    """By us, and not by hand. Raises OSError."""
    store.write_file(path, content, mode)
    written.remember(written.found_now([{"kind": "file", "name": path}]))


def _fingerprint(path: str) -> str:
    """As in written.known; "" for what is no file."""
    return snapshots.fingerprint(path).partition("file ")[2]
