"""Run a read, or a change in check mode, in the confined child; take back frames and what the kernel enforced."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import time
from typing import Any, Callable

import confine
import jobs
import receipt

CHUNK, DONE, FORCE = b"O", b"D", b"F"
STREAM_LIMIT = 64 << 20


def perform(
    user: str,
    job: dict[str, Any],
    manifest: dict[str, Any],
    timeout: int,
    memory: int,
    on_chunk: Callable[[bytes], None],
    secrets: dict[str, str],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns the result message, the effective sandbox and the output summary."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _confined(user, job, manifest, timeout, memory, sink, secrets)
    os.close(sink)
    end: dict[str, Any] = {}
    effective: dict[str, Any] = {}
    digest, length, buffer = hashlib.sha256(), 0, b""
    deadline = time.monotonic() + timeout
    watch = select.poll()
    watch.register(source, select.POLLIN)
    watch.register(1, 0)  # only that its other end was closed
    try:
        while not end:
            left = deadline - time.monotonic()
            events = dict(watch.poll(left * 1000)) if left > 0 else {}
            if 1 in events:
                raise BrokenPipeError("nobody listens any more")
            if not events:
                # Following a log has no end of its own.
                end = _end("" if manifest["streams"] else "timeout", f"the action did not end within {timeout} s")
                break
            data = os.read(source, 262144)
            if not data:
                break
            buffer += data
            while len(buffer) >= 5 and len(buffer) >= 5 + int.from_bytes(buffer[1:5], "big"):
                size = int.from_bytes(buffer[1:5], "big")
                kind, payload, buffer = buffer[:1], buffer[5 : 5 + size], buffer[5 + size :]
                if kind == CHUNK:
                    digest.update(payload)
                    length += len(payload)
                    on_chunk(payload)
                elif kind == FORCE:
                    effective = json.loads(payload)
                else:
                    end = json.loads(payload)
            if length > STREAM_LIMIT or len(buffer) > 2 << 20:
                end = _end("output-flood", "the action gave more than 64 MiB")
    finally:
        os.close(source)
        # Process 1 of the child's pid namespace dies with it, and all others with that.
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not end:
        end = _end(*_why(status))
    summary = {"sha256": digest.hexdigest() if length else receipt.EMPTY, "length": length, "truncated": False}
    return end, effective, summary


def _why(status: int) -> tuple[str, str]:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXCPU):
        return "killed", "the action was killed"
    return "action-failed", "the action's process broke off"


def _end(code: str, message: str) -> dict[str, Any]:
    return {
        "t": "end",
        "code": code,
        "message": message if code else "",
        "changes": [],
        "data": {},
        "secrets": {},
        "plan_sha256": "",
    }


def _confined(
    user: str,
    job: dict[str, Any],
    manifest: dict[str, Any],
    timeout: int,
    memory: int,
    sink: int,
    secrets: dict[str, str],
) -> None:
    """The child. Never returns: whatever happens it leaves by _exit, so that no code of the runner's runs twice."""

    def send(kind: bytes, payload: bytes) -> None:
        data = kind + len(payload).to_bytes(4, "big") + payload
        while data:
            data = data[os.write(sink, data) :]

    try:
        confine.undumpable()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        declared = manifest["reads"]
        # A forecast has to see what root sees: a 0600 configuration file is read to be compared.
        wide = manifest["kind"] != "read" or any(name != "journal" for name in declared)
        # For an app's files the reader is the app's user: links there lead nowhere that the app could not go.
        privileged = wide and manifest["run_as"] != "app"
        try:
            confine.enter(user, privileged, "journal" in declared, memory, timeout)
        except confine.CannotConfine as error:
            send(DONE, json.dumps(_end("sandbox-floor", str(error))).encode())
            os._exit(0)
        inner = os.fork()
        if inner == 0:
            confine.die_with_parent()
            send(FORCE, json.dumps(confine.effective()).encode())
            if manifest["kind"] == "read":
                end = jobs.read(job, lambda chunk: send(CHUNK, chunk))
            else:
                end = jobs.forecast(job, secrets)
            send(DONE, json.dumps(end).encode())
            os._exit(0)
        os.close(sink)
        os.waitpid(inner, 0)
    finally:
        os._exit(1)
