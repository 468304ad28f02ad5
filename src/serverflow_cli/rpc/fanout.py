"""The same request on many servers at once, with a bound on how many at a time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence

from ..errors import InternalError, SfError
from ..model.result import Reply, Report, ServerResult, reply_of
from .hello import Link

#: Enough to hide the round trips of slow servers; more only costs memory and makes key exchanges wait for each other.
AT_ONCE = 32


async def on_all(
    links: Sequence[Link], work: Callable[[Link], Awaitable[Reply]], report: Report, at_once: int = AT_ONCE
) -> tuple[ServerResult, ...]:
    """Run `work` for each; one that fails leaves the others alone. The results are in the order of the links."""
    gate = asyncio.Semaphore(at_once)
    if len(links) > at_once:
        # A closed connection is a knot of references. Main has put collections off for short commands; here they pay,
        # and what is loaded already need not be looked at.
        gc.freeze()
        gc.set_threshold(5_000, 5, 5)

    async def one(link: Link) -> ServerResult:
        async with gate:
            report({"t": "connect", "server": link.name})
            try:
                result = ServerResult(link.name, await work(link))
            except SfError as error:
                error.server = error.server or link.name
                result = ServerResult(link.name, reply_of(error), error)
            except Exception as error:  # a bug that one server brings out must not cost the others their results
                result = ServerResult(link.name, error=InternalError(error, server=link.name))
            # Not when cancelled: what was asked of the server goes on there, and Ctrl-C says so.
            report({"t": "done", "server": link.name})
            return result

    return tuple(await asyncio.gather(*(one(link) for link in links)))
