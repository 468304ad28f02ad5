"""Renew a certificate before its time."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps.certificate import CertTask
from ._shared import NAME, require_wish


@action(
    "cert.renew",
    "Renew a certificate now, with a new key, whenever it is due",
    kind="task",
    profile="svc",
    timeout=2000,
    host_verbs=("cert-issue",),
    params=[NAME],
)
def renew(params: Params, probe: Probe) -> Steps:
    require_wish(probe, params.name)
    task = CertTask(params.name, "issue", {"force": True})
    yield task
    return task.told
