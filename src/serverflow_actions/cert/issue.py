"""Get a certificate now."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps.certificate import CertTask
from ._shared import NAME, require_wish


@action(
    "cert.issue",
    "Get a certificate that is missing or due now, and see it served",
    kind="task",
    profile="svc",
    timeout=2000,
    host_verbs=("cert-issue",),
    params=[
        NAME,
        param("force", "boolean", "Also before its time", default=False),
        param("unserved", "boolean", "Nobody need serve it yet", default=False),
    ],
)
def issue(params: Params, probe: Probe) -> Steps:
    require_wish(probe, params.name)
    task = CertTask(params.name, "issue", {"force": params.force}, unserved=params.unserved)
    yield task
    return task.told
