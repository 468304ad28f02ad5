"""The run itself: workers in their sandboxes, their frames, and whatever ends them. Root; part of the executor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import time
from typing import Any

import core
import declared
import hold
import layout
import sandbox
from broker import Broker
from safely import Safely
from serverflow_actions.kit.host import HostError

HERE = os.path.dirname(os.path.realpath(__file__))
FRAME_LIMIT = 2 << 20
OUTPUT_KEPT = 1 << 20
OUTPUT_LIMIT = 64 << 20
#: What a receipt keeps of the run, in bytes of JSON; with the rest of it, it stays below 256 KiB.
CHANGES_KEPT = 128 << 10
DATA_KEPT = 96 << 10
#: Of the countdown, at most this part for the change itself.
_APPLYING = 0.75
_FOR_THE_WORKER = ("action", "module", "params", "plan_sha256", "confirm_s", "written")
_ENDED = re.compile(r"code=(\w+)/status=(\w+)")


class Progress:
    """The file that the runner tails, and `op follow` reads later."""

    def __init__(self, folder: str) -> None:
        self._file = os.open(f"{folder}/progress", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, event: dict[str, Any]) -> None:
        # A full disk must not stop the run for the sake of a progress line.
        with contextlib.suppress(OSError):
            os.write(self._file, json.dumps(event).encode() + b"\n")


class Output:
    """What the worker printed: all of it hashed, head and tail kept."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._kept = b""
        self.length = 0

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self.length += len(data)
        self._kept += data
        if len(self._kept) > OUTPUT_KEPT:
            self._kept = self._kept[: OUTPUT_KEPT // 2] + self._kept[-OUTPUT_KEPT // 2 :]

    def summary(self) -> dict[str, Any]:
        return {"sha256": self._hash.hexdigest(), "length": self.length, "truncated": self.length > OUTPUT_KEPT}

    def tail(self) -> str:
        return self._kept[-2000:].decode("utf-8", "replace")


class Run:
    """One job. `end` is the worker's last message; without one the run was killed or broke."""

    def __init__(self, job: dict[str, Any], folder: str, progress: Progress) -> None:
        self.job = job
        self.folder = folder
        self.progress = progress
        self.changes: list[dict[str, Any]] = []
        self.effective: dict[str, Any] = {}
        self.output = Output()
        self.heard = 0  # bytes of frames
        self.exit: dict[str, int | None] = {"code": None, "signal": None}
        self.killed_for = ""
        self._cut_off = ""  # what the broker says of its work, where that had to end in the middle
        self._cgroup = ""
        self._memory_hit = False
        manifest = job["manifest"]
        self.unit = f"serverflow-run-{job['about']['op_id'].lower()}"
        self._worker = ""  # the unit at work
        self.deadline = time.monotonic() + job["timeout"]
        self._executor = core.executor_unit(job["about"]["op_id"])
        self.safely = Safely(job, declared.folders(manifest, job["params"]))
        self.broker = Broker(manifest, job["params"], self.unit, self._executor, self._must_stop, progress, self.safely)

    def perform(self) -> dict[str, Any]:
        """Start workers until one ends: a package may bring a folder that the first sandbox could not open."""
        for attempt in range(3):
            end = self._one_worker(attempt)
            if end.get("t") != "again":
                return _with_room(end)
            self.job["plan_sha256"] = None  # compared once, before the first change
        return failed("action-failed", "the action asks for a new sandbox again and again")

    def _one_worker(self, attempt: int) -> dict[str, Any]:
        job, manifest = self.job, self.job["manifest"]
        wanted = declared.folders(manifest, job["params"])
        made = sandbox.make_drop_ins(wanted)
        self.safely.made += made
        folders = sandbox.open_folders(wanted)
        lines = sandbox.properties(
            manifest, folders, job["user"], job["timeout"], job["memory"], job["secrets"], job["blobs"]
        ) + sandbox.bound_to(self._executor)
        unit = self.unit if attempt == 0 else f"{self.unit}-{attempt}"
        self._worker = f"{unit}.service"
        argv = sandbox.systemd_run(unit, lines, [layout.PYTHON, "-IS", f"{HERE}/worker.py", *folders])
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=layout.ENVIRONMENT
        ) as process:
            try:
                end = self._converse(process, manifest, missing=set(wanted) - set(folders))
            finally:
                _stop(unit, process)
                for folder in made:
                    with contextlib.suppress(OSError):  # it is not empty: the action has used it
                        os.rmdir(folder)
        return end if end.get("t") else self._without_end()

    def _converse(
        self, process: subprocess.Popen[bytes], manifest: dict[str, Any], missing: set[str]
    ) -> dict[str, Any]:
        assert process.stdin and process.stdout and process.stderr  # Popen gives all three for PIPE
        frames, errors = process.stdout.fileno(), process.stderr.fileno()
        waiting, buffer = [frames, errors], b""
        while waiting:
            # Often: the counters go with the control group, a few milliseconds after the kill.
            ready, _, _ = select.select(waiting, [], [], 0.02)
            self._watch_memory()
            self._must_stop()
            if self.output.length + self.heard > OUTPUT_LIMIT or len(buffer) > FRAME_LIMIT:
                self.killed_for = "output-flood"
            if self.killed_for:
                return {}
            for descriptor in ready:
                data = os.read(descriptor, 65536)
                if not data:
                    waiting.remove(descriptor)
                elif descriptor == errors:
                    self.output.add(data)
                else:
                    self.heard += len(data)
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        end = self._frame(json.loads(line), process, manifest, missing)
                        if end:
                            return end
        return {}

    def _frame(
        self, message: dict[str, Any], process: subprocess.Popen[bytes], manifest: dict[str, Any], missing: set[str]
    ) -> dict[str, Any]:
        """Returns the end message, or {} to go on."""
        kind = message.get("t")
        if kind == "ready":
            self.effective, self._cgroup = message["effective"], _memory_folder(message["cgroup"])
            gap = sandbox.floor_gap(self.effective, manifest)
            if gap:
                return failed("sandbox-floor", f"this server cannot enforce: {gap}")
            job = self.job
            self._answer(process, {key: job[key] for key in _FOR_THE_WORKER})
        elif kind == "ask":
            try:
                self._answer(process, self._ask(message, missing))
            except hold.CannotHold as error:
                return failed("sandbox-floor", str(error))
        elif kind == "change":
            self.changes.append(dict(message["change"]))
        elif kind == "step":
            self.progress({"t": "step", "doing": str(message.get("doing", ""))[:500]})
        elif kind == "end":
            return _checked_end(message)
        elif kind == "again":
            return message
        return {}

    def _ask(self, message: dict[str, Any], missing: set[str]) -> dict[str, Any]:
        replaces = message["verb"] in ("account", "package")
        try:
            with hold.still(self._worker) if replaces else contextlib.nullcontext():
                result = self.broker.serve(str(message["verb"]), dict(message["arguments"]))
        except HostError as error:
            if self.killed_for and str(error) != self.killed_for:
                self._cut_off = f": {error}"
            return {"error": str(error)}
        if message["verb"] == "arm":
            # What is left of the countdown is for whoever confirms.
            self.deadline = min(self.deadline, time.monotonic() + self.safely.seconds * _APPLYING)
        if message["verb"] == "package" and any(os.path.isdir(path) for path in missing):
            return {"result": result, "again": True}
        return {"result": result}

    def _answer(self, process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(message).encode() + b"\n")
                process.stdin.flush()

    def _must_stop(self) -> str:
        """Whether its time is over or somebody has cancelled it, also while the broker is at work."""
        if time.monotonic() > self.deadline:
            self.killed_for = "timeout"
        if os.path.exists(f"{self.folder}/cancel"):
            self.killed_for = "killed"
        return self.killed_for

    def _watch_memory(self) -> None:
        """systemd reports a plain signal for the kernel's out-of-memory kill on cgroup v1; the counters tell."""
        for name in ("memory.events", "memory.oom_control"):
            counts = [line for line in self._counter(name) if line.startswith("oom_kill ")]
            self._memory_hit = self._memory_hit or any(int(line.split()[1]) > 0 for line in counts)
        self._memory_hit = self._memory_hit or any(int(line) > 0 for line in self._counter("memory.failcnt"))

    def _counter(self, name: str) -> list[str]:
        """The lines of a file of the control group; none when it is gone or of the other version."""
        try:
            with open(f"{self._cgroup}/{name}", encoding="ascii") as file:
                return file.read().splitlines()
        except OSError:
            return []

    def _without_end(self) -> dict[str, Any]:
        """The worker went without a word: find out why."""
        tail = self.output.tail()
        found = _ENDED.search(tail)
        status = found.group(2) if found else ""
        if found and found.group(1) == "exited" and status.isdigit():
            self.exit["code"] = int(status)
        elif status.isalpha():
            number = getattr(signal, f"SIG{status}", None)
            self.exit["signal"] = int(number) if number else None
        if self.killed_for == "timeout":
            told = f"the action did not end within {self.job['timeout']} s; all its processes were killed"
            return failed("timeout", told + self._cut_off)
        if self.killed_for == "killed":
            return failed("killed", f"the action was cancelled; all its processes were killed{self._cut_off}")
        if self.killed_for == "output-flood":
            return failed("output-flood", "the action printed more than 64 MiB; it was killed")
        if "result: oom-kill" in tail or (status == "KILL" and self._memory_hit):
            return failed("out-of-memory", "the action used more memory than it may")
        if "result: timeout" in tail:
            return failed("timeout", "the action did not end in time; all its processes were killed")
        if self.exit["signal"]:
            return failed("killed", f"the action was killed by SIG{status}")
        return failed("action-failed", "the action's process broke off: " + tail[-600:].strip())


def failed(code: str, message: str) -> dict[str, Any]:
    return {"t": "end", "code": code, "message": message, "changes": [], "data": {}, "secrets": {}, "plan_sha256": ""}


def shortened(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The changes as a receipt keeps them. What does not fit is left out, and said: first diffs, then whole changes."""
    kept: list[dict[str, Any]] = []
    room = CHANGES_KEPT
    for number, change in enumerate(changes):
        size = _size(change)
        if size > room and change.get("diff"):
            change = {**change, "diff": "", "note": f"its diff is left out here: {len(change['diff'])} characters"}
            size = _size(change)
        if size > room:
            left = len(changes) - number
            kept.append({"verb": "run", "kind": "receipt", "name": f"{left} more changes do not fit in here"})
            break
        kept.append(change)
        room -= size
    return kept


def _size(value: Any) -> int:
    return len(json.dumps(value))


def _with_room(end: dict[str, Any]) -> dict[str, Any]:
    if _size(end["data"]) > DATA_KEPT:
        return {**end, "data": {}, "code": "output-flood", "message": "the action's result is larger than 96 KiB"}
    return {**end, "message": str(end["message"])[:4000]}


def _checked_end(message: dict[str, Any]) -> dict[str, Any]:
    """What the receipt is made of has the shape of a receipt, whatever the worker says. Whether all is back is for
    others to say.
    """
    blank = failed("", "")
    fits = message.keys() == blank.keys() and all(type(message[name]) is type(blank[name]) for name in blank)
    if fits and message["code"] not in ("rolled-back", "indeterminate"):
        return message
    return failed("action-failed", "the action's process ended with something that is no result")


def _stop(unit: str, process: subprocess.Popen[bytes]) -> None:
    """Nothing of the run survives: the whole control group is killed, then the unit is waited for."""
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdin = None
    try:
        process.wait(timeout=0.3)
    except subprocess.TimeoutExpired:
        subprocess.run(
            ["systemctl", "kill", "--signal=KILL", "--", f"{unit}.service"],
            env=layout.ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        # Drained: systemd-run waits for room in a full pipe to say how the unit ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=15)
        if process.poll() is None:
            process.kill()


def _memory_folder(cgroup: str) -> str:
    """Where the memory counters of the worker's control group are: version 2, else version 1 (cgroups(7))."""
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
            if (controllers == "memory" or not controllers) and os.path.isdir(root + path):
                return root + path
    return ""
