"""What is to be sent and was not yet, and what is remembered between alerts: small files in /var/lib/serverflow/alerts.

Where the disk takes no more they go to /run/serverflow/alerts, in memory, which then counts; after a reboot it is what
was on the disk that counts, so that an alert is sent twice rather than not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import journal
import layout
import store

EVENTS_KEPT = 500
BYTES_KEPT = 1 << 20
#: About one key.
SHARE = 20
#: Between two attempts.
LONGEST_S = 3600
#: A letter that was given up is shown for so long.
GIVEN_UP_KEPT_S = 7 * 86_400
#: It is held over some fsyncs: forty jobs that fail at once on a slow disk take a quarter of that.
_LOCK_WAIT_S = 60

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_LETTER = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")
#: What store.write_file leaves when it is killed.
_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{12}\Z")
_EVENT = {
    "v": int, "id": str, "kind": str, "severity": str, "state": str, "key": str, "server": str, "server_id": str,
    "hostname": str, "at": str, "since": str, "count": int, "title": str, "text": str, "data": dict,
}  # fmt: skip
_ENTRY = {"state": str, "attempts": int, "refused": int, "unreachable": bool, "next": int, "said": str, "left": list}

WAITING, SENT, GAVE_UP = "waiting", "sent", "gave-up"


class Held(OSError):
    """Another process has the lock, and does not let go of it."""


@dataclass(frozen=True)
class Letter:
    """An event and what became of it by channel: `state` waiting, sent or gave-up; `attempts`, of which `refused` ones;
    `next`, the time of the next one in seconds since the epoch; what the other side `said`; and the recipients that are
    `left`, none for all of them.
    """

    event: dict[str, Any]
    spooled: int
    to: dict[str, dict[str, Any]]

    @property
    def id(self) -> str:
        return str(self.event["id"])

    @property
    def waits(self) -> bool:
        return any(entry["state"] == WAITING for entry in self.to.values())


def is_due(entry: Mapping[str, Any], now: int) -> bool:
    """Also when it is later than we ever wait: it was noted before the clock was set back."""
    return bool(entry["next"] <= now or entry["next"] > now + LONGEST_S)


def heads(found: Iterable[Letter]) -> Iterator[tuple[Letter, str]]:
    """The oldest letter of each key and channel that waits, of letters in order."""
    ahead = set()
    for letter in found:
        for name, entry in letter.to.items():
            lane = (name, letter.event["key"])
            if entry["state"] == WAITING and lane not in ahead:
                ahead.add(lane)
                yield letter, name


def new_entry(now: int) -> dict[str, Any]:
    """A channel that a letter is to go to at once."""
    return {"state": WAITING, "attempts": 0, "refused": 0, "unreachable": False, "next": now, "said": "", "left": []}


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Whoever writes here is alone. Raises Held when it is not to be had in time, or another OSError."""
    descriptor = in_memory("lock")
    try:
        _wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)


def in_memory(name: str) -> int:
    """A file to lock, opened. Raises OSError."""
    _make_folder(layout.ALERTS_IN_MEMORY)
    path = f"{layout.ALERTS_IN_MEMORY}/{name}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _wait_for(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise Held(error.errno, f"another process has held it for {_LOCK_WAIT_S} s") from None
            time.sleep(0.02)


def new_id(now: float) -> str:
    """A ULID (github.com/ulid/spec) that sorts behind those that wait, even if the clock was set back."""
    milliseconds = int(now * 1000)
    for name in _letter_names()[-1:]:
        milliseconds = max(milliseconds, _time_of(name) + 1)
    number = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def _time_of(ulid: str) -> int:
    number = 0
    for character in ulid[:10]:
        number = number << 5 | _ALPHABET.index(character)
    return number


# --- letters ---------------------------------------------------------------------------------------------------------


def add(event: dict[str, Any], channels: Iterable[str], now: int) -> None:
    """Spool an event for these channels; what it makes needless and the oldest make room. Within the lock; without it
    some of what makes room may come back, or be counted wrong. Raises OSError.
    """
    letter = Letter(event, now, {name: new_entry(now) for name in channels})
    data = _encoded(letter)
    _make_room(letter, len(data))
    _put(f"spool/{letter.id}.json", data)


def letters() -> list[Letter]:
    """All, oldest first."""
    found = []
    for name in _letter_names():
        try:
            letter = _read(name)
        except OSError as error:
            journal.note(f"an alert in the spool cannot be read: {name}: {error.strerror}")
        else:
            found += [letter] if letter else []
    return found


def _read(letter_id: str) -> Letter | None:
    """None when it is gone. A damaged one is counted as lost, and goes. Raises OSError."""
    data = _get(f"spool/{letter_id}.json")
    try:
        return None if data is None else _letter(data, letter_id)
    except (ValueError, RecursionError):
        journal.note(f"an alert in the spool was damaged, and is lost: {letter_id}")
        lose(1)
        drop(letter_id)
        return None


def note(letter_id: str, channel: str, entry: Mapping[str, Any] | None) -> None:
    """Write down what became of it in a channel; with None the channel is forgotten. Once every channel has it, it is
    gone. Raises OSError.
    """
    with lock():
        letter = _read(letter_id)
        if letter is None or channel not in letter.to:
            return  # it had to make room meanwhile
        to = {name: kept for name, kept in letter.to.items() if name != channel}
        if entry is not None:
            to[channel] = dict(entry)
        if all(each["state"] == SENT for each in to.values()):
            drop(letter_id)
        else:
            _put(f"spool/{letter_id}.json", _encoded(Letter(letter.event, letter.spooled, to)))


def drop(letter_id: str) -> None:
    """Forget it, sent or not."""
    for folder in _folders():
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/spool/{letter_id}.json")


def _encoded(letter: Letter) -> bytes:
    return store.encode({"v": 1, "event": letter.event, "spooled": letter.spooled, "to": letter.to})


def _letter(data: bytes, name: str) -> Letter:
    """Raises ValueError."""
    value = json.loads(data)
    if not isinstance(value, dict) or not isinstance(value.get("to"), dict) or value.get("v") != 1:
        raise ValueError
    _check(value.get("event"), _EVENT)
    for entry in value["to"].values():
        _check(entry, _ENTRY)
        if any(type(each) is not str for each in entry["left"]):
            raise ValueError
    if value["event"]["id"] != name or type(value.get("spooled")) is not int:
        raise ValueError
    return Letter(value["event"], value["spooled"], value["to"])


def _check(value: Any, shape: Mapping[str, type]) -> None:
    if not isinstance(value, dict) or any(type(value.get(key)) is not kind for key, kind in shape.items()):
        raise ValueError


def _letter_names() -> list[str]:
    found = set()
    for folder in _folders():
        with contextlib.suppress(OSError):
            found |= {entry[: -len(".json")] for entry in os.listdir(f"{folder}/spool") if entry.endswith(".json")}
    return sorted(filter(_LETTER.match, found))


def _make_room(new: Letter, size: int) -> None:
    """What no longer waits goes first, and then what has waited longest. No key takes more than its share."""
    found = sorted(letters(), key=lambda letter: (letter.waits, letter.id))
    needless = [letter for letter in found if _says_less(letter, new)]
    kept = [letter for letter in found if letter not in needless]
    same = [letter for letter in kept if letter.event["key"] == new.event["key"]]
    leaving = same[: max(0, len(same) + 1 - SHARE)]
    kept = [letter for letter in kept if letter not in leaving]
    sizes = [len(_encoded(letter)) for letter in kept]
    excess, count = sum(sizes) + size - BYTES_KEPT, len(kept) + 1 - EVENTS_KEPT
    for letter, its in zip(kept, sizes):
        if excess <= 0 and count <= 0:
            break
        leaving.append(letter)
        excess, count = excess - its, count - 1
    for letter in needless + leaving:
        drop(letter.id)
    if lost := sum(letter.waits for letter in leaving):
        lose(lost)
        journal.note(f"the spool of alerts is full: {lost} of the oldest are lost")


def _says_less(old: Letter, new: Letter) -> bool:
    """Whether a reminder that nobody took yet says nothing that a newer one does not."""
    one, other = old.event, new.event
    return bool(
        one["key"] == other["key"]
        and one["state"] == other["state"] == "open"
        and one["since"] == other["since"]
        and 1 < one["count"] <= other["count"]
        and old.waits
        and all(
            entry["state"] == SENT or (entry["state"] == WAITING and entry["attempts"] and name in new.to)
            for name, entry in old.to.items()
        )
    )


# --- what is remembered ----------------------------------------------------------------------------------------------


def remembered(name: str) -> dict[str, Any]:
    """The object in this file; empty when there is none, or it is damaged."""
    try:
        value = json.loads(_get(name) or b"{}")
    except (ValueError, RecursionError):
        journal.note(f"what is remembered of alerts was damaged, and begins anew: {name}")
        return {}
    return value if isinstance(value, dict) else {}


def remember(name: str, value: Mapping[str, Any]) -> None:
    """Within the lock. Raises OSError."""
    _put(name, store.encode(value))


def lost() -> dict[str, Any]:
    """How many alerts were lost, and when the last one was: `count`, `at` (seconds since the epoch)."""
    value = remembered("lost")
    return {key: value[key] if type(value.get(key)) is int else 0 for key in ("count", "at")}


def lose(count: int) -> None:
    """Count what nobody is going to hear of."""
    with contextlib.suppress(OSError):
        remember("lost", {"count": lost()["count"] + count, "at": int(time.time())})


def tidy(now: int) -> None:
    """Remove what was given up long ago, and what a kill left half written."""
    with lock():
        for letter in letters():
            if not letter.waits and not 0 <= now - letter.spooled < GIVEN_UP_KEPT_S:
                drop(letter.id)
        for folder in (path for root in _folders() for path in (root, f"{root}/spool")):
            with contextlib.suppress(OSError):
                for name in filter(_HALF_WRITTEN.match, os.listdir(folder)):
                    os.unlink(f"{folder}/{name}")


# --- files, on the disk or in memory ---------------------------------------------------------------------------------


def _folders() -> tuple[str, str]:
    """Memory first: what is there is newer."""
    return layout.ALERTS_IN_MEMORY, layout.ALERTS


def _get(name: str) -> bytes | None:
    memory, disk = _folders()
    found = store.read_file(f"{memory}/{name}")
    return store.read_file(f"{disk}/{name}") if found is None else found


def _put(name: str, data: bytes) -> None:
    memory, disk = _folders()
    try:
        _write(f"{disk}/{name}", data)
    except OSError as error:
        _write(f"{memory}/{name}", data)
        if name.startswith("spool/"):
            journal.note(f"an alert is kept in memory: {error.strerror}")
    else:
        with contextlib.suppress(OSError):
            os.unlink(f"{memory}/{name}")


def _write(path: str, data: bytes) -> None:
    _make_folder(os.path.dirname(path))
    store.write_file(path, data)


def _make_folder(folder: str) -> None:
    """And the one above: a parent that makedirs makes by itself has another mode."""
    for each in (os.path.dirname(folder), folder):
        os.makedirs(each, mode=0o700, exist_ok=True)
