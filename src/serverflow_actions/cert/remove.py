"""Stop renewing a certificate."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.certificate import FOLDER, credential_path, wish_path
from ..kit.certunits import TIMER
from ..kit.steps import File
from ..kit.steps.certificate import CertForget
from ._shared import NAME, nothing_to_renew


@action(
    "cert.remove",
    "Stop renewing a certificate; what was issued stays until it is purged",
    kind="change",
    timeout=120,
    writes=(FOLDER,),
    units=(TIMER,),
    host_verbs=("cert-unit", "cert-forget"),
    destructive=True,
    resource="cert.{name}",
    params=[NAME, param("purge", "boolean", "Delete the certificate and its key as well", default=False)],
)
def remove(params: Params, probe: Probe) -> Steps:
    yield from nothing_to_renew(probe, params.name)
    yield File(wish_path(params.name), absent=True)
    yield CertForget(params.name, params.purge)
    yield File(credential_path(params.name), absent=True, secret=True)
