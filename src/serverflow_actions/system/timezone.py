"""Set the machine's time zone."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import TimeZone


@action(
    "system.timezone",
    "Set the time zone",
    kind="change",
    profile="svc",
    host_verbs=("timezone",),
    params=[param("zone", "timezone", "A zone of the IANA database such as Europe/Paris or UTC", positional=True)],
)
def timezone(params: Params, _: Probe) -> Steps:
    yield TimeZone(params.zone)
