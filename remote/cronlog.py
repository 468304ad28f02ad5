"""What is remembered of a job's runs: /var/lib/serverflow/cron/jobs/NAME/history, and out/RUN for what each wrote.

The history is lines of JSON, each on the disk before it counts; what a crash leaves of a line is cut off by the next
one (segments.py). A run is a line when it starts, one for each further attempt, and one when it ends; a run without a
start, such as a skipped one, is its last line alone. One that waits for the end of another has a line for that, too.
The first line tells up to what time older runs may be missing.

    {"t": "cut", "run": "", "at": ms}
    {"t": "wait", "run": …, "due": ms or 0, "started": ms, "trigger": …, "by": …, "message": for what}
    {"t": "start", "run": …, "due": ms or 0, "started": ms, "trigger": …, "by": …}
    {"t": "attempt", "run": …, "attempt": 2, "at": ms, "message": why it came to that}
    {"t": "end", "run": …, "ended": ms, "outcome": …, "exit": …, …}
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import cronjobs
import layout
import segments
import store

RUNS, DAYS, SIZE = 1000, 90, 1 << 20
OUTPUTS = 50
#: Of what a run writes, at its beginning and at its end.
KEPT = 32 << 10
_LINES = 3 * RUNS

OUTCOMES = ("ok", "failed", "timeout", "out-of-memory", "killed", "skipped", "refused", "lost")

#: A run as everybody sees it. `outcome` is "running" before its end; times in ms since 1970, 0 for none; `exit`,
#: `signal`, `cpu_ms` and `peak_bytes` None where nobody knows; they are of the last attempt, but `cpu_ms` of all and
#: `peak_bytes` the highest. `op` is the operation of an action.
BLANK: dict[str, Any] = {
    "run": "", "due": 0, "started": 0, "ended": 0, "outcome": "running", "exit": None, "signal": None, "cpu_ms": None,
    "peak_bytes": None, "attempt": 1, "attempts": 1, "trigger": "schedule", "by": "", "op": "", "message": "",
}  # fmt: skip


class Output:
    """What a run writes: the first and the last of it."""

    def __init__(self) -> None:
        self.length = 0
        self._head = b""
        self._tail = b""

    def add(self, data: bytes) -> None:
        self.length += len(data)
        room = KEPT - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-KEPT:]

    def told(self) -> dict[str, Any]:
        """`omitted` bytes lie between head and tail."""
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        omitted = self.length - len(self._head) - len(self._tail)
        if not omitted:
            head, tail = (self._head + self._tail).decode("utf-8", "replace"), ""
        return {"head": head, "tail": tail, "length": self.length, "omitted": omitted}

    def end(self, limit: int = 2000) -> str:
        """For an alert."""
        return (self._head + self._tail if not self._tail else self._tail)[-limit:].decode("utf-8", "replace")


# --- writing ---------------------------------------------------------------------------------------------------------


def append(name: str, line: dict[str, Any]) -> None:
    """Durable. What a full disk does not take waits in memory for the next line."""
    data = store.encode(line) + b"\n"
    with cronjobs.alone(name, "history"):
        waiting = store.read_file(_waiting(name)) or b""
        try:
            cronjobs.folder(name)
            segments.append(_history(name), waiting + data)
        except OSError:
            segments.append(_waiting(name), data)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_waiting(name))
        with contextlib.suppress(OSError):
            _bound(name)


def keep_output(name: str, run: str, output: Output) -> None:
    """Of the newest runs only. Raises OSError."""
    place = f"{cronjobs.folder(name)}/out"
    os.makedirs(place, mode=0o700, exist_ok=True)
    store.write_file(f"{place}/{run}", store.encode({"v": 1, **output.told()}))
    there = set(os.listdir(place))
    # By the history: after the clock was set back an id is no measure of age.
    kept = [one["run"] for one in runs(name) if one["run"] in there and one["run"] != run][: OUTPUTS - 1]
    for one in there.difference(kept, (run,)):
        os.unlink(f"{place}/{one}")


def _bound(name: str) -> None:
    """Few enough, young enough, small enough; far below, so that it does not come to this with every line."""
    path = _history(name)
    data = store.read_file(path) or b""
    if len(data) > SIZE or data.count(b"\n") > _LINES:
        _rewrite(path, data, SIZE * 3 // 4)


def _rewrite(path: str, data: bytes, room: int) -> None:
    """The newest whole runs that fit. A rename puts the new file in place."""
    lines = [(line, raw) for line, raw in _parsed(data) if line.get("t") != "cut"]
    now = store.now_ms()
    since = now - DAYS * 86_400_000
    kept: set[str] = set()
    left: dict[str, int] = {}
    youngest: dict[str, int] = {}
    for line, raw in lines:
        run = str(line.get("run"))
        left[run] = left.get(run, 0) + len(raw) + 1
        youngest[run] = max([youngest.get(run, 0), *(_number(line.get(key)) for key in ("started", "at", "ended"))])
    ended = {str(line.get("run")) for line, _ in lines if line.get("t") == "end"}
    for run in reversed(list(left)):
        room -= left[run]
        # One that has not ended stays: somebody has to see that.
        if run not in ended or (room >= 0 and youngest[run] >= since and len(kept) < RUNS):
            kept.add(run)
    # Times that are yet to come were noted before the clock was set back.
    gone = [_number(line.get("due")) for line, _ in lines if line["run"] not in kept]
    cut = max([_cut(data), *(due for due in gone if due <= now)])
    first = store.encode({"t": "cut", "run": "", "at": cut}) + b"\n" if cut else b""
    store.write_file(path, first + b"".join(raw + b"\n" for line, raw in lines if line["run"] in kept))


def _cut(data: bytes) -> int:
    return max((_number(line.get("at")) for line, _ in _parsed(data) if line.get("t") == "cut"), default=0)


def tidy(name: str) -> None:
    """What has become too old goes, and with its last run all that is left of a job that is not there any more."""
    with cronjobs.alone(name, "history"):
        path = _history(name)
        data = store.read_file(path) or b""
        limit = store.now_ms() - DAYS * 86_400_000
        times = [_number(line.get("started")) for line, _ in _parsed(data) if line.get("t") == "start"]
        if times and min(times) < limit:
            _rewrite(path, data, SIZE)
        is_empty = all(line.get("t") == "cut" for line, _ in _parsed(store.read_file(path) or b""))
        if is_empty and not os.path.lexists(f"{layout.CRON}/{name}.json"):
            shutil.rmtree(cronjobs.place(name), ignore_errors=True)


# --- reading ---------------------------------------------------------------------------------------------------------


def runs(name: str) -> list[dict[str, Any]]:
    """Newest first, in the form of BLANK, at most as many as are kept."""
    found: dict[str, dict[str, Any]] = {}
    for data in _files(name):
        for line, _ in _parsed(data):
            run = found.setdefault(str(line.get("run")), dict(BLANK))
            if run["outcome"] == "running" or line.get("t") != "start":
                run.update({key: line[key] for key in BLANK if key in line})
            if line.get("t") == "attempt":
                run.update(attempts=line.get("attempt", 1), attempt_at=line.get("at", 0))
    return [one for one in reversed(list(found.values())) if one["run"]][:RUNS]


def covered(name: str) -> tuple[set[int], int]:
    """The times for which there is a run, and since when all are known that there were. In seconds."""
    lines = [line for data in _files(name) for line, _ in _parsed(data)]
    cut = max((_number(line.get("at")) for line in lines if line.get("t") == "cut"), default=0)
    return {_number(line.get("due")) // 1000 for line in lines}, cut // 1000


def told(run: dict[str, Any]) -> dict[str, Any]:
    """A run as an answer has it."""
    return {key: run[key] for key in BLANK if key != "attempt"}


def output(name: str, run: str) -> dict[str, Any] | None:
    """What that run wrote; None when it is not kept, or not there yet."""
    if run not in (os.listdir(f"{cronjobs.place(name)}/out") if _has_outputs(name) else ()):
        return None
    try:
        found = json.loads(store.read_file(f"{cronjobs.place(name)}/out/{run}") or b"null")
    except ValueError:
        return None
    return {key: found[key] for key in ("head", "tail", "length", "omitted")} if found else None


def _has_outputs(name: str) -> bool:
    return os.path.isdir(f"{cronjobs.place(name)}/out")


def _history(name: str) -> str:
    return f"{cronjobs.place(name)}/history"


def _waiting(name: str) -> str:
    return f"{cronjobs.in_memory(name)}/history"


def _files(name: str) -> list[bytes]:
    return [store.read_file(path) or b"" for path in (_history(name), _waiting(name))]


def _parsed(data: bytes) -> Sequence[tuple[dict[str, Any], bytes]]:
    """Complete lines that are what we write. Damage costs the line that it is in."""
    found = []
    for raw in data.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            line = json.loads(raw)
            if isinstance(line, dict) and isinstance(line.get("run"), str):
                found.append((line, raw))
    return found


def _number(value: Any) -> int:
    return value if type(value) is int else 0
