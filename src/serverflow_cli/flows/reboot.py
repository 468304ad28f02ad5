"""Wait for a server that restarts: it is back when its HELLO shows another boot than the receipt did."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ..errors import OutcomeUnknown, SfError, TrustError, Unreachable
from ..model.result import Reply, Report

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: Large machines count their memory for minutes.
BACK_WITHIN_S = 600
_PAUSE_S = 1.0


async def wait_until_back(caller: Caller, link: Link, before: Reply, seconds: int, report: Report) -> None:
    """Ask until another boot answers. `before` is the receipt of the reboot.

    Raises OutcomeUnknown when it does not come back in time, TrustError when someone else answers in its place.
    """
    report({"t": "step", "server": link.name, "doing": "waiting for it to come back"})
    deadline = time.monotonic() + seconds
    last: SfError | None = None
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                if (await caller.greet(link)).boot != before.receipt["boot"]:
                    return
        except TimeoutError:
            break
        except Unreachable as error:
            last = error
        except TrustError as error:
            # pam_nologin(8) turns logins away while a system goes down or comes up.
            if error.code != "ssh-key-refused":
                raise
            last = error
        await asyncio.sleep(_PAUSE_S)
    late = OutcomeUnknown(
        f"it did not come back within {seconds} s" + (f": {last.message}" if last else ""),
        server=link.name,
        hint=f"sf server check --on {link.name}",
        code="not-back",
    )
    late.reply = before
    raise late
