"""Certificates of the fleet file as resources: the zones and keys of their proofs, then they themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from serverflow_actions.kit.certificate import STAGING

from ..errors import ConfigError
from . import name_servers
from .proofs import Challenge, challenges
from .resource import Resource
from .wishes import Wish, directory, endpoints, wishes
from .zones import addresses, zone_of

if TYPE_CHECKING:
    from ..model.fleet import Acme, Fleet, PowerDns


def certificates(fleet: Fleet) -> Iterator[Resource]:
    """The zones and keys of the proofs, then the certificates. Raises ConfigError."""
    if fleet.acme is None:
        return
    proved = challenges(fleet)
    for challenge in dict.fromkeys(proved.values()):
        yield from _zone(fleet, challenge)
    for wish in wishes(fleet):
        yield _certificate(fleet, fleet.acme, wish, proved.get((wish.server, wish.name)))


def _zone(fleet: Fleet, challenge: Challenge) -> Iterator[Resource]:
    settings = fleet.dns.providers[challenge.provider]
    assert settings.provider == "powerdns"
    yield name_servers.zone(fleet, challenge.provider, settings, challenge.zone)
    about = {"name": challenge.zone, "zone": challenge.zone}
    key = f"dns.update-key.{challenge.zone}"
    yield Resource(settings.on, key, "dns.update-key", about, "acme", {"secret": challenge.secret})


def _certificate(fleet: Fleet, acme: Acme, wish: Wish, challenge: Challenge | None) -> Resource:
    params: dict[str, Any] = {
        "name": wish.name,
        "names": list(wish.names),
        "directory": directory(acme),
        "reload": ["nginx.service"],
    }
    if verify := endpoints(fleet).get((wish.server, wish.name)):
        params["verify"] = [*verify]
    if acme.email:
        params["email"] = acme.email
    if acme.rehearsal:
        params["rehearsal"] = STAGING
    secrets = {}
    if challenge:
        primary = fleet.dns.providers[challenge.provider]
        assert primary.provider == "powerdns"
        params |= _by_key(fleet, primary, challenge)
        secrets["secret"] = challenge.secret
    elif acme.token:
        params |= {"method": "cloudflare", "zone": _only_zone(fleet, wish)}
        secrets["secret"] = acme.token.secret
    else:
        raise ConfigError("acme.token is missing: without a zone at PowerDNS servers need one", hint="sf cert setup")
    if acme.eab_key_id and acme.eab_hmac_key:
        params["eab-key-id"] = acme.eab_key_id
        secrets["eab-hmac-key"] = acme.eab_hmac_key.secret
    return Resource(wish.server, f"cert.{wish.name}", "cert.set", params, "certificates", secrets)


def _by_key(fleet: Fleet, primary: PowerDns, challenge: Challenge) -> dict[str, Any]:
    name = challenge.zone.rstrip(".")
    return {"method": "tsig", "zone": name, "server": list(addresses(fleet, primary.on)), "key": name}


def _only_zone(fleet: Fleet, wish: Wish) -> str:
    zones = {zone_of(fleet, name.removeprefix("*.")) for name in wish.names}
    if len(zones) > 1 or "" in zones:
        raise ConfigError(
            f"certificate {wish.name} on {wish.server}: its names are not all in one zone of the file",
            hint=", ".join(wish.names),
        )
    return zones.pop()
