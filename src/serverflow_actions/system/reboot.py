"""Restart the machine."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import Reboot


# The receipt's `boot` marker tells later whether the machine came back as another boot.
@action("system.reboot", "Restart the machine", kind="task", profile="svc", host_verbs=("reboot",))
def reboot(_: Params, __: Probe) -> Steps:
    yield Reboot()
