"""Tell people what happened on this server: every part of it that notices something calls `emit`.

The first time something goes wrong is told, then once a day with the count while it goes on, then that it is over. What
comes and goes all the time is told a few times, and then once a day how often it did.
docs/events.md is what other programs may rely on.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import channels
import journal
import layout
import spool
import store
import units
import wording
from serverflow_actions.kit import events

#: What comes and goes is counted by the day, and an `event` is told so often.
REPEAT_S = 86_400
#: What goes on is told again at the first sign of it after so long. Not after a day: a nightly job that fails two
#: seconds sooner than the night before would be told every other day. An hour is what summer time takes from a night.
REMIND_S = 22 * 3600
#: What comes and goes is told so many times in that time; after a day with more than that, once.
PAIRS = 3
#: And once more, when it no longer goes.
LASTING_S = 3600
KEYS_KEPT = 1000
_KEY_LIMIT = 200
_DATA_LIMIT = 4096
_VALUE_LIMIT = 500
#: Of one run of the notifier, however many channels do not answer.
_RUN_S = 3600


def emit(
    kind: str,
    key: str,
    title: str,
    text: str = "",
    data: Mapping[str, Any] | None = None,
    state: str = "open",
    severity: str | None = None,
    seen_again: bool = False,
) -> None:
    """Spool an event of `kind` (kit/events.py) for the channels that want it, and have it sent. Never raises.

    `key` says what it is about: an `open` one lasts until a `resolved` one with the same key, and an `event` that comes
    again within a day is counted but not told. With `seen_again` it is no occurrence of its own while it is open: who
    looks every five minutes sees one thing all day. `title` is one line, `text` may be what a job printed, `data` is a
    small JSON object.
    """
    try:
        _emit(kind, wording.line(key, _KEY_LIMIT), title, text, data or {}, state, severity, seen_again)
    except Exception as error:  # the work of whoever calls is more than the news of it
        words = error.strerror if isinstance(error, OSError) else type(error).__name__
        with contextlib.suppress(Exception):
            journal.note(f"an alert is lost ({words}): {kind} {key}: {wording.line(title)}")
        with contextlib.suppress(Exception):
            spool.lose(1)


def _emit(
    kind: str,
    key: str,
    title: str,
    text: str,
    data: Mapping[str, Any],
    state: str,
    severity: str | None,
    seen_again: bool,
) -> None:
    now = time.time()
    usual = events.KINDS[kind].severity if kind in events.KINDS else events.DEFAULT
    grave = severity if severity in events.SEVERITIES else usual
    with contextlib.ExitStack() as held:
        is_alone = True
        try:
            held.enter_context(spool.lock())
        except spool.Held as error:
            # Its letter has a name of its own, and can do no harm. What is remembered is others' too, so it stays as it
            # is: then the next one is told again.
            is_alone = False
            journal.note(f"{key} is told without the lock of the spool: {error.strerror}")
        known = {
            name: entry
            for name, entry in open_keys().items()
            if entry["state"] != "resolved" or _is_lately(entry["seen"], int(now))
        }
        found = known.get(key)
        if state == "resolved" and (found is None or found["state"] != "open"):
            return
        entry, tell = weigh(found, kind, state, grave, int(now), seen_again)
        to = _recipients(kind, grave, found if state == "resolved" else None) if tell else []
        if to:
            note = unsteady(found, entry) if state == "open" else ""
            event = {
                **blank(now),
                "kind": kind, "severity": entry["severity"], "state": state, "key": key,
                "since": rfc3339(entry["since"]), "count": entry["count"],
                "title": wording.line(title), "text": wording.text(f"{note}\n\n{text}" if note else text),
                "data": small(data),
            }  # fmt: skip
            # First: after a crash between the two it is told twice rather than not at all.
            spool.add(event, to, int(now))
            if state != "resolved":
                entry.update(last_sent=int(now), to=sorted({*entry["to"], *to}))
        try:
            if is_alone:
                _keep(known, key, entry)
        except OSError as error:
            journal.note(f"what was told of {key} is not kept: {error.strerror}")
    if to:
        start()


def weigh(
    found: Mapping[str, Any] | None, kind: str, state: str, severity: str, now: int, seen_again: bool = False
) -> tuple[dict[str, Any], bool]:
    """What to remember of a key from now on, and whether to tell of it now. Pure. Only what is open can be resolved.

    Of a key that comes and goes a day is kept: when it began (`day`), its `openings`, how many more of them may be told
    (`left`; the last is for one that lasts), its gravest severity (`peak`). Of a `muted` opening nobody was told.
    """
    if state == "resolved":
        assert found is not None
        return {**found, "state": state, "seen": now}, bool(found["last_sent"])
    if found and found["state"] == state and (state == "open" or _is_lately(found["seen"], now)):
        return _again(found, severity, now, 0 if seen_again else 1)
    fresh = {
        "kind": kind, "state": state, "severity": severity, "since": now, "seen": now, "count": 1, "last_sent": 0,
        "to": [], "day": now, "openings": 1, "left": PAIRS, "peak": severity, "muted": False,
    }  # fmt: skip
    if not found or found["state"] != "resolved" or state != "open":
        return fresh, True
    if not _is_lately(found["day"], now):
        return {**fresh, "left": 1 if found["openings"] > PAIRS else PAIRS}, True
    graver = _is_graver(severity, found["peak"])
    muted = found["left"] <= 1 and not graver
    kept = {
        "day": found["day"],
        "openings": found["openings"] + 1,
        "left": found["left"] - (not muted and not graver),
        "peak": severity if graver else found["peak"],
    }
    return {**fresh, **kept, "muted": muted}, not muted


def _again(found: Mapping[str, Any], severity: str, now: int, more: int) -> tuple[dict[str, Any], bool]:
    """It goes on, or happens so many times more."""
    graver = _is_graver(severity, found["severity"])
    peak = severity if _is_graver(severity, found["peak"]) else found["peak"]
    entry = {**found, "severity": severity if graver else found["severity"], "seen": now}
    entry.update(peak=peak, count=found["count"] + more)
    if not found["muted"]:
        pause = REMIND_S if found["state"] == "open" else REPEAT_S
        return entry, graver or not (found["last_sent"] and _is_lately(found["last_sent"], now, pause))
    if not _is_lately(found["day"], now):
        return {**entry, "muted": False, "day": now, "openings": 1, "left": 1}, True
    if found["left"] and not 0 <= now - found["since"] < LASTING_S:
        return {**entry, "muted": False, "left": 0}, True
    return {**entry, "muted": peak == found["peak"]}, peak != found["peak"]


def unsteady(before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> str:
    """A sentence on what comes and goes, "" for the rest; `before` is what was remembered until now. Pure."""
    told = before if before and before["day"] != entry["day"] and before["openings"] > 1 else entry
    if told is entry and entry["openings"] < PAIRS:
        return ""
    words = f"This has come and gone: {told['openings']} times since {rfc3339(told['day'])}."
    return f"{words} As long as it does so it is told once a day." if told["openings"] >= PAIRS else words


def _is_graver(one: str, other: str) -> bool:
    return events.SEVERITIES.index(one) > events.SEVERITIES.index(other)


def _is_lately(then: int, now: int, seconds: int = REPEAT_S) -> bool:
    """A time that is yet to come was noted before the clock was set back."""
    return 0 <= now - then < seconds


def open_keys() -> dict[str, dict[str, Any]]:
    """By key, what is open or was lately, without what is damaged."""
    shape = {
        "kind": str, "state": str, "severity": str, "since": int, "seen": int, "count": int, "last_sent": int,
        "to": list, "day": int, "openings": int, "left": int, "peak": str, "muted": bool,
    }  # fmt: skip
    return {
        key: entry
        for key, entry in spool.remembered("open").items()
        if isinstance(entry, dict)
        and all(type(entry.get(name)) is kind for name, kind in shape.items())
        and {entry["severity"], entry["peak"]} <= {*events.SEVERITIES}
    }


def _keep(known: dict[str, dict[str, Any]], key: str, entry: dict[str, Any]) -> None:
    known = {**known, key: entry}
    newest = sorted(known, key=lambda name: known[name]["seen"])[-KEYS_KEPT:]
    spool.remember("open", {name: known[name] for name in newest})


def _recipients(kind: str, severity: str, opened: Mapping[str, Any] | None) -> list[str]:
    """Whoever wants to hear of it; that it is over, whoever was told that it began."""
    found, _ = channels.everything()
    if opened is not None:
        return [one.name for one in found if one.name in opened["to"]]
    return [one.name for one in found if _wants(one, kind, severity)]


def _wants(channel: channels.Channel, kind: str, severity: str) -> bool:
    """A rule that this version does not know matches nothing."""
    for rule in channel.rules:
        with contextlib.suppress(ValueError):
            if events.matches((rule,), kind, severity):
                return True
    return False


# --- the event -------------------------------------------------------------------------------------------------------


def blank(now: float) -> dict[str, Any]:
    """An event of this server at this time; `server` is filled in by channel, which knows what operators call it."""
    at = rfc3339(int(now))
    return {
        "v": 1, "id": spool.new_id(now), "kind": "", "severity": "info", "state": "event", "key": "",
        "server": "", "server_id": (store.read_file(layout.SERVER_ID) or b"").decode("ascii", "replace").strip(),
        "hostname": wording.line(socket.gethostname(), 64), "at": at, "since": at, "count": 1,
        "title": "", "text": "", "data": {},
    }  # fmt: skip


def rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0, seconds)))


def small(data: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON it takes 4 KiB at most: long texts lose their middle, and if that is not enough, all of it goes."""
    kept = {
        wording.line(str(key), 64): value if type(value) in (bool, int, type(None)) else _value(value)
        for key, value in data.items()
    }
    size = len(store.encode(kept))
    return kept if size <= _DATA_LIMIT else {"left_out": f"{size} bytes"}


def _value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [one if type(one) in (bool, int) else wording.text(str(one), _VALUE_LIMIT) for one in value]
    return wording.text(str(value), _VALUE_LIMIT)


# --- sending ---------------------------------------------------------------------------------------------------------


def resume() -> None:
    """For the watch timer: have the notifier run when something is due, as after a reboot, which takes its timers.
    Nothing is sent from here. Never raises.
    """
    try:
        now = int(time.time())
        spool.tidy(now)
        if any(spool.is_due(letter.to[name], now) for letter, name in spool.heads(spool.letters())):
            start()
    except Exception as error:
        journal.note(f"the alerts that wait cannot be looked at: {type(error).__name__}")


def start(after_s: int = 0) -> str:
    """Have the notifier run, now or later, in a unit of its own; its name, "" when systemd does not take it. What waits
    is then sent at the next look of the watch timer.
    """
    unit = f"serverflow-notify-{secrets.token_hex(6)}"
    options = ["--no-block", "--collect", "--quiet", f"--unit={unit}", "--property=LogLevelMax=notice"]
    options += [f"--property=RuntimeMaxSec={_RUN_S}", "--description=Send serverflow's alerts"]
    if after_s:
        options += [f"--on-active={after_s}", "--timer-property=AccuracySec=1s"]
    try:
        done = units.run(["systemd-run", *options, "--", layout.RUNNER, "deliver"], timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return unit if done.returncode == 0 else ""
