"""Make a zone, or bring its settings up to date. Its records are another matter: dns.change."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ._config import roles
from ._ds import ds_of
from ._rows import Zone, keys
from ._rows import zone as zone_named
from ._shared import ZONE
from ._zone import ZoneSettings

#: What each kind must have, and what it may have.
_PARAMS = {
    "primary": (("nameservers",), ("transfer_key", "also_notify", "catalog", "dnssec", "drop_dnssec")),
    "secondary": (("primaries", "transfer_key"), ()),
    "producer": (("transfer_key",), ("also_notify",)),
    "consumer": (("primaries", "transfer_key"), ()),
}
#: What a zone may become with what it holds. Else the other server's records would replace its own.
_BECOMES = {("secondary", "primary"), ("native", "primary"), ("consumer", "producer")}
_ROLE = {"primary": "primary", "producer": "primary", "secondary": "secondary", "consumer": "secondary"}


@action(
    "dns.zone",
    "Make a zone on a name server, or change its settings",
    kind="change",
    resource="dns.zone.{zone}",
    host_verbs=("dns-zones", "dns-records"),
    params=[
        ZONE,
        param(
            "kind",
            "text",
            "Kept here, fetched from another server, or a catalog of zones that is kept or followed (RFC 9432)",
            default="primary",
            choices=tuple(_PARAMS),
        ),
        param("nameservers", "domain", "Name server of the zone, the primary first", default=(), many=True),
        param(
            "transfer-key", "domain", "TSIG key that transfers are made with; without one there are none", default=""
        ),
        param("also-notify", "address", "Address of a secondary that is told of changes", default=(), many=True),
        param("primaries", "address", "Address of a server to fetch the zone from", default=(), many=True),
        param("catalog", "domain", "Catalog by which secondaries learn of the zone", default=""),
        param("dnssec", "boolean", "Sign the zone (ECDSA P-256, NSEC)", default=False),
        param(
            "drop-dnssec", "boolean", "Stop signing, and delete the keys: the parent's DS must be gone", default=False
        ),
    ],
)
def zone(params: Params, probe: Probe) -> Steps:
    _check_params(params)
    found = zone_named(probe, params.zone)
    _check_server(params, probe)
    if found:
        _check_found(params, found)
    yield ZoneSettings(
        params.zone,
        params.kind,
        transfer_key=params.transfer_key,
        nameservers=tuple(dict.fromkeys(params.nameservers)),
        also_notify=tuple(sorted(set(params.also_notify))),
        primaries=tuple(sorted(set(params.primaries))),
        catalog=params.catalog,
        signed=params.dnssec,
    )
    now = zone_named(probe, params.zone)
    data = {"zone": params.zone, "kind": params.kind, "serial": now.serial if now else 0}
    return {**data, "ds": ds_of(probe, params.zone)} if params.dnssec and now and now.signed else data


def _check_params(params: Params) -> None:
    must, may = _PARAMS[params.kind]
    every = {name for lists in _PARAMS.values() for names in lists for name in names}
    given = {name for name in every if getattr(params, name)}
    missing, foreign = set(must) - given, given - {*must, *may}
    if missing:
        raise Refused(f"a {params.kind} zone needs {_listed(missing)}")
    if foreign:
        raise Refused(f"a {params.kind} zone has no {_listed(foreign)}")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(name.replace("_", "-") for name in names))


def _check_server(params: Params, probe: Probe) -> None:
    role = _ROLE[params.kind]
    if role not in roles(probe):
        raise Refused(f"this name server is no {role}: dns.server sets its role")
    if params.transfer_key and params.transfer_key not in keys(probe):
        raise Refused(f"there is no TSIG key {params.transfer_key} here: dns.key makes it")
    if params.catalog:
        catalog = zone_named(probe, params.catalog)
        if not catalog or catalog.kind != "producer":
            raise Refused(f"{params.catalog} is no catalog that is kept here")


def _check_found(params: Params, found: Zone) -> None:
    """What would be lost. Raises Refused."""
    if found.kind != params.kind and (found.kind, params.kind) not in _BECOMES:
        raise Refused(
            f"{params.zone} is a {found.kind} zone here, and what it holds would be lost if it became a {params.kind}"
            " one: dns.zone-remove removes it"
        )
    if found.kind != params.kind and "PRESIGNED" in found.metadata:
        raise Refused(
            f"{params.zone} is a signed copy here, and the keys are at its primary: no change of it could be signed."
            " Take the parent's DS record away and wait until it has expired everywhere, then remove the zone here and"
            " make it anew"
        )
    if found.signed and not params.dnssec and not params.drop_dnssec:
        raise Refused(
            f"{params.zone} is signed, and without its keys it cannot be resolved while the parent has a DS record:"
            " remove that first, wait until it has expired everywhere, then say drop-dnssec"
        )
