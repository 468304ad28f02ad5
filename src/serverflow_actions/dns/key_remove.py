"""Take a TSIG key away."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action
from ._key import TsigKey
from ._rows import zones
from ._shared import KEY


@action(
    "dns.key-remove",
    "Remove a TSIG key that no zone names any more",
    kind="change",
    host_verbs=("dns-remove",),
    destructive=True,
    resource="dns.update-key.{name}",
    params=[KEY],
)
def remove(params: Params, probe: Probe) -> Steps:
    using = [
        each.name
        for each in zones(probe)
        if any(
            f"{value.rstrip('.')}." == params.name
            for kind, values in each.metadata.items()
            if "TSIG" in kind
            for value in values
        )
    ]
    if using:
        raise Refused(f"{params.name} is the key of {', '.join(using)}")
    yield TsigKey(params.name, absent=True)
