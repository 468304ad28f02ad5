"""What is done about a certificate outside the sandbox, with a network: Host.certificate_do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..certificate import INSTALLED, credential_path
from ..change import Change
from ..probe import Host, HostError, Probe
from ..undo import Footprint, irreversible


@dataclass(frozen=True)
class CertTask:
    """Issue or revoke, done whatever the certificate's state is; `told` has what is known afterwards.

    Needs host_verbs=("cert-issue",) or ("cert-revoke",); one that was revoked has another issued in its place. One that
    is issued and is not served then is a failure, unless it may be `unserved`.
    """

    name: str
    do: str
    fields: dict[str, Any]
    unserved: bool = False
    told: dict[str, Any] = field(default_factory=dict, compare=False)

    def check(self, _: Probe) -> Change | None:
        how = self.fields.get("reason") or ("in any case" if self.fields.get("force") else "if it is due")
        return Change("run", "certificate", self.name, {self.do: (None, how)})

    def apply(self, host: Host) -> None:
        self.told.update(host.certificate_do(self.do, self.name, **self.fields))
        if self.told.get("not_served") and not self.unserved:
            raise HostError(f"certificate {self.name} was issued, and is not served: {self.told['not_served']}"[:2000])

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("what an authority has issued or revoked stays so")


@dataclass(frozen=True)
class CertForget:
    """What is remembered of a certificate, with its accounts; and with `purge` the certificate and its key.

    Needs host_verbs=("cert-forget",). It stands between the removal of the wish, so that nobody renews it meanwhile,
    and that of the credential, which shows that this is not done yet.
    """

    name: str
    purge: bool

    def check(self, probe: Probe) -> Change | None:
        link = self.purge and probe.stat(f"{INSTALLED}/{self.name}")
        if not link and not probe.stat(credential_path(self.name)):
            return None
        return Change("delete", "certificate", self.name, {"files": ("there", "removed" if link else "left in place")})

    def apply(self, host: Host) -> None:
        host.certificate_do("forget", self.name, purge=self.purge)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("accounts and keys of a certificate are not kept")
