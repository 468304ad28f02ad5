"""A unit's log."""

from __future__ import annotations

from collections.abc import Iterator

from ..kit import Params, Probe, action, param
from ._shared import UNIT


@action(
    "service.logs",
    "Show a unit's log",
    kind="read",
    timeout=3600,
    reads=("journal",),
    streams=True,
    params=[
        UNIT,
        param("lines", "integer", "How many lines from the end", default=100, minimum=0, maximum=10000),
        param("since", "duration", "Only what is younger, such as 2h", default=0),
        param("follow", "boolean", "Go on with new lines until interrupted", default=False),
    ],
)
def logs(params: Params, probe: Probe) -> Iterator[bytes]:
    # No look at the unit first: the log of one that is gone is often what is wanted.
    argv = [
        "journalctl",
        "--no-pager",
        "--quiet",
        "--output=short-iso",
        f"--unit={params.unit}",
        f"--lines={params.lines}",
    ]
    if params.since:
        argv.append(f"--since=@{int(probe.now()) - params.since}")
    if params.follow:
        argv.append("--follow")
    yield from probe.stream(argv)
