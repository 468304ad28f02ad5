"""Inside the sandbox: run one action's engine and speak frames with the executor. Started anew for each run.

A frame is one line of JSON. The first tells what protections are in force; the executor answers with the job only
when they meet the floor.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

LINE_LIMIT = 1 << 20


class Link:
    """Requests and answers over two pipes, one line each. Also the engine's broker."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._again = False

    def send(self, message: dict[str, Any]) -> None:
        self._sink.write(json.dumps(message).encode() + b"\n")
        self._sink.flush()
        # Not sooner: what the package step did belongs into the receipt.
        if self._again and message["t"] == "change":
            raise Again

    def receive(self) -> dict[str, Any]:
        """The next answer. Without one there is nothing left to do; the executor hears why on standard error."""
        line = self._source.readline(LINE_LIMIT)
        if not line:
            raise SystemExit(1)
        if not line.endswith(b"\n"):
            raise SystemExit(f"the executor's answer is cut off, or longer than {LINE_LIMIT >> 20} MiB")
        return dict(json.loads(line))

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """kit.host.Broker."""
        from serverflow_actions.kit.host import HostError

        self.send({"t": "ask", "verb": verb, "arguments": arguments})
        answer = self.receive()
        self._again = self._again or "again" in answer
        if "error" in answer:
            raise HostError(answer["error"])
        return dict(answer["result"])


class Again(BaseException):
    """A package brought a folder that this sandbox was built without: the executor starts a new one."""


def main() -> None:
    """Entry point: `python3 -IS worker.py FOLDER…`, with the folders that should be writable."""
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path.insert(0, here)
    import confine

    confine.undumpable()
    # Programs and stray prints must not write into the frames.
    link = Link(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)

    import sandbox

    with open("/proc/self/cgroup", encoding="ascii") as file:
        cgroup = file.read()
    link.send({"t": "ready", "effective": sandbox.effective(sys.argv[1:]), "cgroup": cgroup})
    link.send(_perform(link, link.receive()))


def _perform(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    import jobs

    try:
        return jobs.run(job, link, _secrets())
    except Again:
        return {"t": "again"}


def _secrets() -> dict[str, str]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or not os.path.exists(folder + "/secrets"):
        return {}
    with open(folder + "/secrets", "rb") as file:
        return dict(json.load(file))


if __name__ == "__main__":
    main()
