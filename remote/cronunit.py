"""One attempt at an app's command: its unit, what it writes, and how it ended by systemd's and the kernel's word.

The unit's last act (ExecStopPost=, when nothing of the command is left) is to say through a pipe how it ended, and to
wait until the counters of its control group are read: they go with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from typing import Callable, NamedTuple

import cgroup
import cronsandbox
import layout
from cronlog import Output
from cronsandbox import STOP_S
from serverflow_actions.kit.cronjob import Job

STOPPED = "it was stopped: the server went down, or somebody stopped its unit"
_LOOK_S = 0.5
#: Past its timeout and the time that systemd has to end it: for us to stop believing that it will.
_GRACE_S, _PATIENCE_S = 2, 30


class Ended(NamedTuple):
    """`outcome` as in cronlog.OUTCOMES; `cpu_ms` and `peak_bytes` None where nobody knows."""

    outcome: str
    message: str = ""
    exit: int | None = None
    signal: int | None = None
    cpu_ms: int | None = None
    peak_bytes: int | None = None
    op: str = ""


class Attempt:
    """Runs the command once. `perform` returns how it ended; nothing of it is left then."""

    def __init__(self, job: Job, run: str, number: int, supervisor: str, output: Output) -> None:
        self._job, self._run, self._supervisor, self._output = job, run, supervisor, output
        self.unit = f"serverflow-job-{job.name}-{run.lower()}-{number}.service"
        self._pipes = f"{layout.CRON_RUN}/{run}-{number}"
        self._group = cgroup.Group(self.unit)
        self._is_overdue = False
        self._why = ""

    def perform(self, stop: Callable[[], str]) -> Ended:
        """`stop` is asked again and again; once it says why, the whole of the command ends."""
        app = cronsandbox.owner(self._job.app)
        path = cronsandbox.program(self._job.command, app.data[0])
        os.makedirs(self._pipes, mode=0o700)
        try:
            for name in ("ended", "go"):
                os.mkfifo(f"{self._pipes}/{name}", 0o600)
            # Both ends are ours, so that neither side waits for the other to open its own.
            ended, go = (os.open(f"{self._pipes}/{name}", os.O_RDWR | os.O_NONBLOCK) for name in ("ended", "go"))
            try:
                return self._watched(app, path, ended, go, stop)
            finally:
                os.close(ended)
                os.close(go)
        finally:
            shutil.rmtree(self._pipes, ignore_errors=True)

    def _watched(self, app: cronsandbox.Owner, path: str, ended: int, go: int, stop: Callable[[], str]) -> Ended:
        begun = time.monotonic()
        version = cronsandbox.systemd_version()
        lines = cronsandbox.properties(self._job, app, self._supervisor, self._pipes, version)
        source, sink = os.pipe()
        os.set_blocking(source, False)
        argv = [
            "systemd-run", "--pipe", "--wait", "--collect", "--quiet", f"--unit={self.unit}",
            *(f"--property={line}" for line in lines),
            *(f"--setenv={name}={value}" for name, value in cronsandbox.environment(self._job, app, self._run).items()),
            # systemd would put variables in: systemd.service(5), "Command lines".
            "--", path, *(word.replace("$", "$$") for word in self._job.command[1:]),
        ]  # fmt: skip
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=layout.ENVIRONMENT, start_new_session=True
        )
        os.close(sink)
        try:
            said = self._follow(process, source, ended, stop)
            took = time.monotonic() - begun - STOP_S
            self._group.kill_all(_first(said), _PATIENCE_S)
            self._drain(source)
            self._group.look()
            with contextlib.suppress(BlockingIOError):
                os.write(go, b"\n")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S)
        finally:
            self._end(process)
            self._drain(source)
            os.close(source)
        self._why = self._why or stop()
        return self._judged(said, took)._replace(
            cpu_ms=self._group.cpu_ms or None, peak_bytes=self._group.peak_bytes or None
        )

    def _follow(self, process: subprocess.Popen[bytes], source: int, ended: int, stop: Callable[[], str]) -> str:
        """Until the unit says how it ended; "" when it went without a word. All that it writes is taken at once."""
        deadline = time.monotonic() + self._job.timeout + STOP_S + _GRACE_S
        asked = False
        while True:
            ready, _, _ = select.select([source, ended], [], [], _LOOK_S)
            if source in ready and not self._drain(source, 64):
                time.sleep(0.05)  # nobody has it open any more
            if ended in ready:
                return os.read(ended, 4096).decode("ascii", "replace").strip()
            if process.poll() is not None and not self._is_alive():
                return ""
            self._group.look()
            self._why = self._why or stop()
            if self._why and not asked:
                asked = True
                deadline = min(deadline, time.monotonic() + STOP_S + _GRACE_S)
                self._systemctl("stop", "--no-block")
            if self._group.was_killed_for_memory or time.monotonic() > deadline:
                self._is_overdue = True
                self._group.kill_all(0, _PATIENCE_S)  # also whoever would have said how it ended
                deadline = time.monotonic() + _PATIENCE_S
                if process.poll() is not None:
                    return ""

    def _drain(self, source: int, most: int = 1 << 20) -> bool:
        """What is there, at most so many pieces; False at its end."""
        for _ in range(most):
            try:
                data = os.read(source, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._output.add(data)
        return True

    def _is_alive(self) -> bool:
        """systemd-run may go while the unit stays, when systemd starts itself anew."""
        state = self._systemctl("show", "--property=ActiveState", "--value")
        return state in ("active", "activating", "deactivating", "reloading")

    def _systemctl(self, *words: str) -> str:
        argv = ["systemctl", *words, "--", self.unit]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, capture_output=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.decode("utf-8", "replace").strip()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Whatever has come in between, nothing of it stays."""
        self._group.kill_all(0, _PATIENCE_S)
        if process.poll() is None:
            self._systemctl("kill", "--signal=KILL")
            self._systemctl("stop")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            if process.poll() is None:
                process.kill()
                process.wait()

    # --- the verdict -------------------------------------------------------------------------------------------------

    def _judged(self, said: str, took: float) -> Ended:
        _, result, code, value = [*said.split(" "), "", "", "", ""][:4]
        number = int(value) if value.isdigit() else None
        by_signal: signal.Signals | None = (
            getattr(signal, f"SIG{value}", None) if code in ("killed", "dumped") else None
        )
        if result == "timeout" and code == "exited" and took < self._job.timeout:
            # It had ended; what it left behind would not.
            result = "success" if number == 0 else "exit-code"
        outcome, message = self._reason(result, by_signal, number)
        return Ended(
            outcome, message, number if code == "exited" else None, int(by_signal) if by_signal is not None else None
        )

    def _reason(self, result: str, by: signal.Signals | None, status: int | None) -> tuple[str, str]:
        if result == "oom-kill" or self._group.was_killed_for_memory:
            return "out-of-memory", f"it used more than {self._job.memory} bytes of memory"
        if (result == "timeout" or (self._is_overdue and result in ("", "signal"))) and not self._why:
            return "timeout", f"it did not end within {self._job.timeout} s; all its processes were killed"
        if self._why:
            return "killed", self._why
        if by and result == "success":
            return "killed", STOPPED
        if by in (signal.SIGKILL, signal.SIGTERM):
            return "killed", f"somebody killed it by {by.name}"
        if by:
            return "failed", f"it was ended by {by.name}"
        if result == "success" and status == 0:
            return "ok", ""
        if status is not None:
            return "failed", f"it ended with exit status {status}{_BEFORE.get(status, '')}"
        said = self._output.end(300).strip()
        return "failed", f"systemd did not run it ({result or 'no word of its end'}): {said}"[:500]


#: systemd.exec(5), "Process Exit Codes": what comes before the command itself, unless that ends so.
_BEFORE = {
    200: ": its folder cannot be entered", 203: ": the program cannot be executed", 217: ": its user does not exist",
    226: ": its view of the file system cannot be set up", 228: ": its system call filter cannot be set up",
}  # fmt: skip


def _first(said: str) -> int:
    """The process that says the unit's last word."""
    word = said.split(" ")[0]
    return int(word) if word.isdigit() else 0
