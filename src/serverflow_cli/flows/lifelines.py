"""Upgrades of what a server is reached by. They cannot be taken back; what can be done is to see how it stands."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..errors import OutcomeUnknown, SfError
from ..model.result import Reply, Report

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

#: Packages without which nobody logs in, or no command is taken.
PACKAGES = ("openssh-server", "sudo", "python3*", "libpython3*", "systemd*", "libpam-systemd", "dbus*")
BACK_WITHIN_S = 60
PAUSE_S = 1.0


async def prove(caller: Caller, link: Link, reply: Reply, report: Report) -> None:
    """When one of those packages changed, see over a new connection whether the server still takes commands.

    Raises OutcomeUnknown when it does not within a minute.
    """
    touched = _touched(reply)
    if not touched:
        return
    report({"t": "step", "server": link.name, "doing": "looking whether it still takes commands"})
    loop = asyncio.get_running_loop()
    end, trouble = loop.time() + BACK_WITHIN_S, "no answer"
    while loop.time() < end:
        await caller.hang_up(link)
        try:
            async with asyncio.timeout_at(end):
                await caller.greet(link)
            return
        except TimeoutError:
            break
        except SfError as error:
            trouble = error.message
        await asyncio.sleep(PAUSE_S)
    lost = OutcomeUnknown(
        f"{', '.join(touched)} changed, and since then it takes no commands: {trouble}",
        server=link.name,
        code="not-back",
        hint=f"sf server check --on {link.name}",
    )
    lost.reply = reply
    raise lost


def _touched(reply: Reply) -> list[str]:
    names = {name.partition(":")[0] for change in reply.changes if change.kind == "package" for name in change.fields}
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in PACKAGES))
