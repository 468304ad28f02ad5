"""Do something that meets strangers in a process without rights: nobody's user, no capability, nothing to write, none
of our files, but a network. What it says is JSON, and is to be judged like anything that a stranger says.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any, Callable

import confine
import layout

#: Of addresses: malloc(3) sets some aside.
_MEMORY = 512 << 20
_SAID_LIMIT = 256 << 10


def perform(work: Callable[[], Any], seconds: int) -> Any:
    """What `work` returns; None when it raised, could not be confined or did not end in time."""
    try:
        source, sink = os.pipe()
        child = os.fork()
    except OSError:
        return None
    if child == 0:
        os.close(source)
        _confined(work, seconds, sink)
    os.close(sink)
    try:
        return _heard(source, seconds)
    finally:
        os.close(source)
        # Process 1 of the child's pid namespace dies with it.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _heard(source: int, seconds: int) -> Any:
    deadline = time.monotonic() + seconds
    data = bytearray()
    watch = select.poll()
    watch.register(source, select.POLLIN)
    while len(data) <= _SAID_LIMIT:
        if not watch.poll(max(0, deadline - time.monotonic()) * 1000):
            return None
        part = os.read(source, 65536)
        if not part:
            break
        data += part
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _confined(work: Callable[[], Any], seconds: int, sink: int) -> None:
    """The child. Never returns: whatever happens it leaves by _exit, so that no code of the caller's runs twice."""
    try:
        confine.undumpable()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        confine.enter(layout.READ_USER, False, False, _MEMORY, seconds, network=True)
        if os.fork() == 0:
            confine.die_with_parent()
            data = json.dumps(work()).encode()
            with contextlib.suppress(BrokenPipeError), open(sink, "wb", closefd=False) as file:
                file.write(data)
            os._exit(0)
        os.close(sink)
        os.wait()
    finally:
        os._exit(1)
