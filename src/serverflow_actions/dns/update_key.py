"""A TSIG key by which one server may change one zone by DNS UPDATE (RFC 2136), and nothing else."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Secret, Steps, action, param
from ._config import roles
from ._key import ALGORITHM, TsigKey, secret_of
from ._rows import zones
from ._shared import KEY, NEW_SECRET, SECRET
from ._zone import Metadata

_KIND = "TSIG-ALLOW-DNSUPDATE"


@action(
    "dns.update-key",
    "Let one key change one zone by DNS UPDATE, and no other",
    kind="change",
    resource="dns.update-key.{name}",
    host_verbs=("dns-zones", "dns-keys"),
    reveals=("secret",),
    params=[KEY, param("zone", "domain", "The zone, of which it may change everything"), SECRET, NEW_SECRET],
)
def update_key(params: Params, probe: Probe) -> Steps:
    if "primary" not in roles(probe):
        raise Refused("this name server is no primary: updates go to the one where zones are kept")
    found = {each.name: each for each in zones(probe)}
    if params.zone not in found or found[params.zone].kind != "primary":
        raise Refused(f"there is no primary zone {params.zone} here: dns.zone makes it", "no-zone")
    for name, each in found.items():
        for kind, values in each.metadata.items():
            is_its_own = (name, kind) == (params.zone, _KIND)
            if "TSIG" in kind and not is_its_own and params.name in [f"{value.rstrip('.')}." for value in values]:
                raise Refused(f"{params.name} is a key of {name} as well: take one of its own")

    secret, is_new = secret_of(params, probe)
    yield TsigKey(params.name, secret)
    yield Metadata(
        params.zone,
        (
            # First: where no key is named, everybody at these addresses may.
            (_KIND, (params.name,)),
            # From anywhere: the key decides.
            ("ALLOW-DNSUPDATE-FROM", ("0.0.0.0/0", "::/0")),
            ("NOTIFY-DNSUPDATE", ("1",)),
            ("SOA-EDIT-DNSUPDATE", ("INCREASE",)),
        ),
    )
    data = {"key": params.name, "algorithm": ALGORITHM, "zone": params.zone}
    return {**data, "secret": Secret(secret)} if is_new else data
