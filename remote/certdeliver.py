"""A new certificate on its way to those who serve it: their units are reloaded, and each endpoint has to show it."""

from __future__ import annotations

import subprocess
import time

import certdue
import certnews
import certs
import certserved
import validate
from certs import State
from serverflow_actions.kit.certificate import Wish
from serverflow_actions.kit.host import HostError
from units import run

#: For the endpoints to serve it after a reload; and when nothing was reloaded.
_SERVED_WAIT_S, _LOOK_WAIT_S = 20, 3
#: Until then somebody may still be about to have the first certificate served.
_FIRST_S = 3600
_RELOAD_S = 120


def delivered(wish: Wish, known: State, *, insist: bool = False) -> State:
    """What is known after a look at whether it is served. Where it is not, the units are told to read it; again at
    longer and longer intervals, or at once for somebody who does `insist`.
    """
    if known.served and not certserved.wrong(wish.verify, known.fingerprint, _LOOK_WAIT_S):
        return known
    refused, wait_s = [], _LOOK_WAIT_S
    if insist or certdue.may_tell(known, int(time.time())):
        refused = [f"{unit}: {said}" for unit in wish.reload for said in [_reload(unit)] if said]
        # What was not told to all can be told at once when it is mended.
        known = known if refused else known._replace(told_at=int(time.time()))
        wait_s = _SERVED_WAIT_S if known.was_served else _LOOK_WAIT_S
    said = "; ".join(filter(None, [*refused, certserved.wrong(wish.verify, known.fingerprint, wait_s)]))
    known = known._replace(served=not said, not_served=said, was_served=known.was_served or not said)
    certs.remember(wish.name, known)
    if known.served:
        certnews.served(wish.name, known)
    elif known.was_served or int(time.time()) - known.installed_at >= _FIRST_S:
        certnews.not_served(wish.name, known)
    return known


def refusal(unit: str) -> str:
    """What the unit's program has against its configuration as it is now; "" when it would start with it."""
    try:
        validate.before("reload", unit)
    except HostError as error:
        return str(error)[:500]
    except (OSError, subprocess.SubprocessError) as error:
        return f"its configuration cannot be checked: {type(error).__name__}"
    return ""


def _reload(unit: str) -> str:
    """Why it could not be told; "" when it was, or does not run. Never a restart: that would cut connections off."""
    try:
        if run(["systemctl", "--quiet", "is-active", "--", unit], _RELOAD_S).returncode:
            return ""
        said = refusal(unit)
        if said:
            return said
        done = run(["systemctl", "--quiet", "reload", "--", unit], _RELOAD_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"systemd does not answer: {type(error).__name__}"
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()[-300:] or "it did not reload"
