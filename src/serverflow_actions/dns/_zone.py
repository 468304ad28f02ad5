"""The settings of one zone: its kind, who may transfer it, who is notified, whether it is signed.

https://doc.powerdns.com/authoritative/http-api/zone.html, domainmetadata.html and catalog.html
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from ..kit import Change, Host, HostError, Probe
from ..kit.change import differing
from ..kit.undo import Footprint, irreversible
from ._rows import KINDS, zone
from ._rows import Zone as Found

#: Seconds, RFC 1035 section 3.3.13: refresh, retry, expire, and how long "no such name" is kept (RFC 2308).
#: NOTIFY tells of changes at once; one that is lost heals after a refresh.
_SOA_TIMES = "1800 300 1209600 300"
_NS_TTL_S = 3600
#: A catalog's serial is seconds since 1970, as PowerDNS counts it on; dates would be greater (RFC 1982).
_SERIALS = {"primary": "DEFAULT", "producer": "EPOCH"}
#: A catalog is served to nobody but secondaries, so its name server is none (RFC 9432 section 4.1).
_NO_NAMESERVER = "invalid."


@dataclass(frozen=True)
class ZoneSettings:
    """A zone that is there. `transfer_key` is the name of the TSIG key that may transfer it, or that a secondary
    transfers it with. Without nameservers a zone keeps those that it has.
    """

    name: str
    kind: str
    transfer_key: str = ""
    nameservers: tuple[str, ...] = ()
    also_notify: tuple[str, ...] = ()
    primaries: tuple[str, ...] = ()
    catalog: str = ""
    signed: bool = False

    @property
    def _sends(self) -> bool:
        return self.kind in ("primary", "producer")

    def _wanted(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {"kind": self.kind, "transfer-key": [self.transfer_key] if self.transfer_key else []}
        if not self._sends:
            return {**wanted, "primaries": sorted(self.primaries)}
        wanted["also-notify"] = sorted(self.also_notify)
        wanted["serial"] = _SERIALS[self.kind]
        if self.kind == "primary":
            wanted.update({"catalog": self.catalog, "signed": self.signed, "denial": "nsec"})
            if self.nameservers:
                wanted["nameservers"] = sorted(self.nameservers)
                wanted["primary-nameserver"] = self.nameservers[0]
        return wanted

    def _found(self, found: Found) -> dict[str, Any]:
        tsig = "TSIG-ALLOW-AXFR" if self._sends else "AXFR-MASTER-TSIG"
        return {
            "kind": found.kind,
            "transfer-key": [f"{key.rstrip('.')}." for key in found.metadata.get(tsig, [])],
            "primaries": sorted(found.primaries),
            "also-notify": found.metadata.get("ALSO-NOTIFY", []),
            "serial": "".join(found.metadata.get("SOA-EDIT-API", [])),
            "catalog": found.catalog,
            "signed": found.signed,
            "denial": "nsec3" if found.metadata.get("NSEC3PARAM") else "nsec",
            "nameservers": sorted(found.nameservers),
            "primary-nameserver": f"{found.soa[0].rstrip('.')}." if found.soa else "",
        }

    def check(self, probe: Probe) -> Change | None:
        found = zone(probe, self.name)
        fields = differing(self._found(found) if found else {}, self._wanted())
        return Change("update" if found else "create", "zone", self.name, fields) if fields else None

    def apply(self, host: Host) -> None:
        found = zone(host, self.name)
        fields = differing(self._found(found) if found else {}, self._wanted()) or {}
        if not found:
            host.powerdns_do("zone-make", {"name": self.name, **self._settings(), **self._content()})
        elif set(fields) - {"also-notify", "nameservers", "primary-nameserver"}:
            host.powerdns_do("zone-set", self._settings(found), zone=self.name)
        if "also-notify" in fields:
            body = {"kind": "ALSO-NOTIFY", "metadata": sorted(self.also_notify)}
            host.powerdns_do("metadata", body, zone=self.name, kind="ALSO-NOTIFY")
        if found and {"nameservers", "primary-nameserver"} & set(fields):
            host.powerdns_do("records", {"rrsets": self._apex(found.soa)}, zone=self.name)
        tell(host, self.name, "notify" if self._sends else "retrieve")

    def _settings(self, found: Found | None = None) -> dict[str, Any]:
        """Of the zone itself, as the API has them. What is signed already is not signed again."""
        keys = [self.transfer_key] if self.transfer_key else []
        body: dict[str, Any] = {"kind": KINDS[self.kind], "masters": sorted(self.primaries)}
        if not self._sends:
            return {**body, "slave_tsig_key_ids": keys}
        body.update({"soa_edit_api": _SERIALS[self.kind], "api_rectify": True, "master_tsig_key_ids": keys})
        if self.kind == "primary":
            body["catalog"] = self.catalog
            if self.signed != (found.signed if found else False):
                body["dnssec"] = self.signed
            if found and found.metadata.get("NSEC3PARAM"):
                body["nsec3param"] = ""
        return body

    def _content(self) -> dict[str, Any]:
        """Of a new zone."""
        if not self._sends:
            return {"nameservers": []}
        if self.kind == "producer":
            return {"nameservers": [_NO_NAMESERVER]}
        return {"nameservers": [], "rrsets": self._apex([])} if self.nameservers else {"nameservers": []}

    def _apex(self, soa: list[str]) -> list[dict[str, Any]]:
        """NS, and a SOA that names the first of them. PowerDNS raises the serial by itself."""
        kept = soa[1:] if len(soa) == 7 else [f"hostmaster.{self.name}", "0", *_SOA_TIMES.split()]
        mailbox = f"{kept[0].rstrip('.')}."
        contents = {"NS": list(self.nameservers), "SOA": [" ".join([self.nameservers[0], mailbox, *kept[1:]])]}
        return [
            {
                "name": self.name,
                "type": type_,
                "ttl": _NS_TTL_S,
                "changetype": "REPLACE",
                "records": [{"content": each, "disabled": False} for each in values],
            }
            for type_, values in contents.items()
        ]

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("zones in PowerDNS' database are not kept")


@dataclass(frozen=True)
class NoZone:
    """A zone that is gone, with its records and its keys."""

    name: str

    def check(self, probe: Probe) -> Change | None:
        found = zone(probe, self.name)
        if not found:
            return None
        return Change("delete", "zone", self.name, note="with its DNSSEC keys" if found.signed else "")

    def apply(self, host: Host) -> None:
        host.powerdns_do("zone-remove", zone=self.name)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("zones in PowerDNS' database are not kept")


@dataclass(frozen=True)
class Metadata:
    """Metadata of a zone that is there, by kind (domainmetadata.html); other kinds are left as they are."""

    zone: str
    wanted: tuple[tuple[str, tuple[str, ...]], ...]

    def _fields(self, probe: Probe) -> dict[str, tuple[Any, Any]]:
        found = zone(probe, self.zone)
        before = {kind: sorted(found.metadata.get(kind, [])) if found else [] for kind, _ in self.wanted}
        return differing(before, {kind: sorted(values) for kind, values in self.wanted}) or {}

    def check(self, probe: Probe) -> Change | None:
        fields = self._fields(probe)
        return Change("update", "zone", self.zone, fields) if fields else None

    def apply(self, host: Host) -> None:
        for kind, (_, values) in self._fields(host).items():
            host.powerdns_do("metadata", {"kind": kind, "metadata": values}, zone=self.zone, kind=kind)

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("zones in PowerDNS' database are not kept")


def tell(host: Host, name: str, call: str) -> None:
    """`notify` the secondaries, or `retrieve` from the primary. What it is for is done already, and PowerDNS does this
    by itself a little later: no failure of it may look like one of the change.
    """
    with contextlib.suppress(HostError):
        host.powerdns_do(call, zone=name)
