"""Have the authority revoke a certificate, and issue another."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.certificate import REASONS
from ..kit.steps.certificate import CertTask
from ._shared import NAME, require_wish


@action(
    "cert.revoke",
    "Have the authority revoke the certificate that is in use, and issue another one",
    kind="task",
    profile="svc",
    timeout=3120,
    host_verbs=("cert-revoke",),
    destructive=True,
    params=[NAME, param("reason", "text", "Why (RFC 5280, 5.3.1)", choices=REASONS)],
)
def revoke(params: Params, probe: Probe) -> Steps:
    require_wish(probe, params.name)
    task = CertTask(params.name, "revoke", {"reason": params.reason})
    yield task
    return task.told
