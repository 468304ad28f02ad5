"""Send what waits in the spool: what alerts.emit, alerts.resume and a timer of ours start, as `runner deliver`.

An attempt that fails is made again after 30 s, then after twice as long each time, up to an hour, for three days. What
the other side refuses for good is tried three times more, since people mend settings; and so is a mail to which nobody
said whether it was taken, since with each attempt it may come once more. Letters about one key go to a
channel one after the other, so that nobody hears of the end before the beginning. Channels take turns, and one that
fails or is slow waits for the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import alerts
import channels
import courier
import journal
import layout
import spool
import store
import units
from said import REFUSED, SENT, UNANSWERED, UNREACHABLE, Said, why
from spool import Letter

_SHORTEST_S, _LONGEST_S = 30, spool.LONGEST_S
#: A channel that takes longer is left alone for the rest of a round.
_SLOW_S = 10
_REFUSALS = 1 + 3
#: After this time, but not before so many attempts: the machine may have been down, or without its clock.
_GIVE_UP_S, _FEWEST = 3 * 86_400, 10
#: Whatever the clock says: more than three days of attempts.
_MOST = 100
#: One run's. Whoever waits longer gets the next one.
_RUN_S = 1200
_SHOWN = 100
_WORDS_KEPT = 300


def run(carry: courier.Carry = courier.carry) -> None:
    """Send what is due, and have this called again for the rest. Does nothing when another run will see to it."""
    # One works and one waits for it, since the first may have looked already. More are not needed.
    with _only("next") as waiting:
        if not waiting:
            return
        lock = spool.in_memory("delivering")
        fcntl.flock(lock, fcntl.LOCK_EX)
    left: int | None = _LONGEST_S
    try:
        with contextlib.suppress(OSError):
            spool.tidy(int(time.time()))
        left = send_due(carry)
    except Exception as error:
        journal.note(f"the alerts that wait cannot be sent: {type(error).__name__}")
    finally:
        _arrange(left)
        os.close(lock)


def send_due(
    carry: courier.Carry = courier.carry, clock: Callable[[], float] = time.time, seconds: float = _RUN_S
) -> int | None:
    """Send until nothing is due. Returns the seconds until something is, None when nothing waits."""
    ends = time.monotonic() + seconds
    troubled = {name for name, last in _last().items() if _time(last, "failed") > _time(last, "sent")}
    while True:
        queue = _queue(spool.letters(), set(channels.names()))
        now = int(clock())
        due = [(letter, name) for letter, name in queue if spool.is_due(letter.to[name], now)]
        if not due or time.monotonic() >= ends:
            left = [max(0, letter.to[name]["next"] - now) for letter, name in queue]
            return min(max(min(left), 1), _LONGEST_S) if left else None
        if not _round(in_turns(due, troubled), carry, clock, ends, troubled):
            return _LONGEST_S  # what was sent would be sent again and again


def _queue(letters: Sequence[Letter], existing: set[str]) -> list[tuple[Letter, str]]:
    """The oldest letter of each key and channel that waits. Channels that were removed are forgotten."""
    for letter in letters:
        for name in letter.to.keys() - existing:
            with contextlib.suppress(OSError):
                spool.note(letter.id, name, None)
    return [(letter, name) for letter, name in spool.heads(letters) if name in existing]


def in_turns(due: Sequence[tuple[Letter, str]], troubled: Collection[str]) -> list[tuple[Letter, str]]:
    """The first letter of each channel, then the second of each; those of troubled channels after all others. Pure.

    Of a channel that gave no answer another letter comes first each time: it may be one alone at which the other side
    hangs up, and that one must not stand before all others for good.
    """
    by_channel: dict[str, list[int]] = {}
    for place, (_, name) in enumerate(due):
        by_channel.setdefault(name, []).append(place)
    places = []
    for name, mine in by_channel.items():
        oldest = due[mine[0]][0].to[name]
        first = oldest["attempts"] % len(mine) if oldest["unreachable"] else 0
        places += [(name in troubled, turn, place) for turn, place in enumerate(mine[first:] + mine[:first])]
    return [due[place] for _, _, place in sorted(places)]


def _round(
    due: Sequence[tuple[Letter, str]],
    carry: courier.Carry,
    clock: Callable[[], float],
    ends: float,
    troubled: set[str],
) -> bool:
    """One attempt for each; False when what came of it could not be noted. No answer to one is none to all of that
    channel, and an answer to one is worth an attempt for those that had none. A channel that fails or is slow gets
    nothing else in this round, and comes last in the next ones: it is `troubled`.
    """
    silent: dict[str, Said] = {}
    left_alone = set()
    for letter, name in due:
        if name in left_alone:
            continue
        if name not in silent and time.monotonic() >= ends:
            break
        began = time.monotonic()
        said = silent.get(name) or _attempt(carry, letter, name)
        troubled.add(name)
        if said.verdict == UNREACHABLE:
            silent[name] = said
        elif said.verdict != SENT or time.monotonic() - began > _SLOW_S:
            left_alone.add(name)
        else:
            troubled.discard(name)
        now = int(clock())
        entry = settled(letter.to[name], said, now, now - letter.spooled)
        if entry["state"] == spool.GAVE_UP:
            journal.note(f"gave up on {letter.event['kind']} {letter.event['key']} for channel {name}: {said.words}")
        try:
            spool.note(letter.id, name, entry)
            if said.verdict == SENT:
                _wake(name, now)
        except OSError as error:
            journal.note(f"what became of an alert cannot be noted: {error.strerror}")
            return False
        _record(name, said, now)
    return True


def _attempt(carry: courier.Carry, letter: Letter, name: str) -> Said:
    """Whatever goes wrong with one letter is what became of that one."""
    try:
        return carry(name, letter.event, letter.to[name]["left"])
    except Exception as error:
        return why(error)


def settled(entry: Mapping[str, Any], said: Said, now: int, age: int) -> dict[str, Any]:
    """The entry of a letter after one more attempt, `age` seconds after it was spooled. Pure."""
    attempts = entry["attempts"] + 1
    refused = entry["refused"] + (said.verdict in (REFUSED, UNANSWERED))
    state = spool.WAITING
    if said.verdict == SENT:
        state = spool.SENT
    elif refused >= _REFUSALS or (age >= _GIVE_UP_S and attempts >= _FEWEST) or attempts >= _MOST:
        state = spool.GAVE_UP
    # The exponent is bounded as well: attempts come from a file.
    wait = max(min(_SHORTEST_S << max(0, min(attempts - 1, 10)), _LONGEST_S), min(said.wait, _LONGEST_S))
    return {
        "state": state,
        "attempts": attempts,
        "refused": refused,
        "unreachable": said.verdict == UNREACHABLE,
        "next": now + wait,
        "said": said.words[:_WORDS_KEPT],
        "left": list(said.left) or entry["left"],
    }


def _wake(name: str, now: int) -> None:
    """The channel answers again."""
    for letter in spool.letters():
        entry = letter.to.get(name)
        if entry and entry["state"] == spool.WAITING and entry["unreachable"] and entry["next"] > now:
            spool.note(letter.id, name, {**entry, "next": now})


def _record(name: str, said: Said, now: int) -> None:
    """Of each channel what was last, as far as there is room for it."""
    with contextlib.suppress(OSError), spool.lock():
        known, existing = _last(), channels.names()
        known[name] = {
            **known.get(name, {}),
            "sent" if said.verdict == SENT else "failed": now,
            "said": said.words[:_WORDS_KEPT],
        }
        spool.remember("last", {one: entry for one, entry in known.items() if one in existing})


def _time(record: Mapping[str, Any], name: str) -> int:
    return record[name] if type(record.get(name)) is int else 0


def _last() -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in spool.remembered("last").items() if isinstance(entry, dict)}


# --- one at a time, and again ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only(name: str) -> Iterator[bool]:
    """Whether nobody else is in this block."""
    lock = spool.in_memory(name)
    alone = False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        yield alone
    finally:
        os.close(lock)


def _arrange(seconds: int | None) -> None:
    """One timer for what waits, in the place of the one before."""
    path = f"{layout.ALERTS_IN_MEMORY}/timer"
    try:
        before = (store.read_file(path) or b"").decode("ascii", "replace")
        if before.startswith("serverflow-notify-"):
            units.run(["systemctl", "stop", "--quiet", "--", f"{before}.timer"], timeout=10)
        unit = alerts.start(seconds) if seconds else ""
        store.write_file(path, unit.encode())
    except (OSError, subprocess.SubprocessError) as error:
        journal.note(f"no timer for the alerts that wait: {type(error).__name__}")


# --- for operators ---------------------------------------------------------------------------------------------------


def status() -> dict[str, Any]:
    """What was sent lately, what waits, was given up or lost, and what is open. No secrets. Times are seconds since the
    epoch, 0 for never.
    """
    letters, last = spool.letters(), _last()
    told = []
    for channel in channels.shown():
        mine = [letter.to[channel["name"]] for letter in letters if channel["name"] in letter.to]
        record = last.get(channel["name"], {})
        waiting = [entry for entry in mine if entry["state"] == spool.WAITING]
        told.append(
            {
                **channel,
                "sent": record.get("sent", 0),
                "failed": record.get("failed", 0),
                "said": record.get("said", ""),
                "waiting": len(waiting),
                "gave_up": sum(entry["state"] == spool.GAVE_UP for entry in mine),
                "next": min((entry["next"] for entry in waiting), default=0),
            }
        )
    opened = {key: entry for key, entry in alerts.open_keys().items() if entry["state"] == "open"}
    return {
        "channels": told,
        "spool": [_shown(letter) for letter in letters[-_SHOWN:]],
        "spooled": len(letters),
        "lost": spool.lost(),
        "open": [
            {"key": key, **{name: entry[name] for name in ("kind", "severity", "since", "seen", "count", "last_sent")}}
            for key, entry in list(opened.items())[-_SHOWN:]
        ],
    }


def _shown(letter: Letter) -> dict[str, Any]:
    event = {name: letter.event[name] for name in ("id", "kind", "key", "severity", "state", "at", "title")}
    fields = ("state", "attempts", "next", "said")
    return {**event, "to": {name: {field: entry[field] for field in fields} for name, entry in letter.to.items()}}


def test(name: str, carry: courier.Carry = courier.carry_soon) -> dict[str, Any]:
    """Send a test through this channel at once, past its rules and the spool; what came of it. Raises KeyError where
    there is no such channel.
    """
    if name not in channels.names():
        raise KeyError(name)
    now = time.time()
    event = {
        **alerts.blank(now),
        "kind": "notify.test",
        "key": f"notify.test/{name}",
        "title": f"Test of channel {name}",
        "text": "Somebody asked for this with `sf notify test`. Alerts of this server come here.",
    }
    said = carry(name, event, ())
    _record(name, said, int(now))
    return {
        "channel": name,
        "id": event["id"],
        "sent": said.verdict == SENT,
        "verdict": said.verdict,
        "said": said.words,
    }
