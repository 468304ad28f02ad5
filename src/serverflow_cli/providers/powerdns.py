"""Zones at PowerDNS on a server of the fleet, by signed actions alone (the area dns).

How an action gets there is not known here: the caller gives two functions, so that nothing of rpc is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from serverflow_actions.kit.rrset import RRset, fqdn

from ..errors import ActionFailed, PlanChanged
from ..model.zone import Change, Served, ZoneState
from .errors import ProviderFailed, no_zone, zone_changed

#: Runs an action on the primary and returns its data: name, parameters, blobs. Raises SfError.
Ask = Callable[[str, Mapping[str, Any], tuple[bytes, ...]], Awaitable[Mapping[str, Any]]]

#: Bytes of changes that go as a parameter, where the receipt's reader sees them, and at most (dns.change).
_INLINE, _LIMIT = 30_000, 512 * 1024
#: A zone that changes while its pages are read is read again, so many times.
_TRIES = 3
_REVISION = re.compile(r"[0-9a-f]{64}\Z")
_MARK = "serverflow "


class NewZones(NamedTuple):
    """How zones are made. `servers` are all that serve them, the primary first: (name, address, port)."""

    servers: tuple[tuple[str, str, int], ...]
    transfer_key: str = ""
    also_notify: tuple[str, ...] = ()
    catalog: str = ""
    dnssec: bool = False


class PowerDns:
    """A DnsProvider. `read` runs reads on the primary, `change` changes."""

    def __init__(self, read: Ask, change: Ask, new: NewZones) -> None:
        self._read = read
        self._change = change
        self._new = new

    async def zones(self) -> list[str]:
        """See DnsProvider: those that are kept there, not those that it fetches from elsewhere."""
        found = await self._asked(self._read, "dns.zones", {})
        with _understood("its zones"):
            return sorted(each["zone"] for each in found["zones"] if each["kind"] == "primary")

    async def add(self, zone: str) -> None:
        """See DnsProvider."""
        if fqdn(zone) in await self.zones():
            return
        new = self._new
        wanted: dict[str, Any] = {
            "zone": zone,
            "kind": "primary",
            "nameservers": [name for name, _, _ in new.servers],
            "transfer-key": new.transfer_key,
            "also-notify": list(new.also_notify),
            "catalog": new.catalog,
            "dnssec": new.dnssec,
        }
        await self._asked(self._change, "dns.zone", {key: value for key, value in wanted.items() if value})

    async def remove(self, zone: str) -> None:
        """See DnsProvider."""
        if fqdn(zone) not in await self.zones():
            raise no_zone("PowerDNS", zone)
        await self._asked(self._change, "dns.zone-remove", {"zone": zone})

    async def fetch(self, zone: str) -> ZoneState:
        """See DnsProvider."""
        for _ in range(_TRIES):
            with _understood(zone):
                pages = [await self._page(zone, 0)]
                while at := pages[-1]["next"]:
                    if at <= sum(len(page["rrsets"]) for page in pages[:-1]):
                        raise ValueError("the next page is none that comes next")
                    pages.append(await self._page(zone, at))
                if len({page["revision"] for page in pages}) == 1:
                    rrsets = tuple(_served(each) for page in pages for each in page["rrsets"])
                    first = pages[0]
                    return ZoneState(first["zone"], rrsets, first["revision"], tuple(first["nameservers"]))
        raise ProviderFailed(f"the zone {zone} changes all the time: it could not be read as a whole")

    async def apply(self, zone: str, changes: Sequence[Change], revision: str) -> None:
        """See DnsProvider."""
        if not changes:
            return
        if not _REVISION.match(revision):
            await self.fetch(zone)  # raises NoZone
            raise zone_changed(zone)
        text = json.dumps([_wanted(each) for each in changes], ensure_ascii=False, separators=(",", ":"))
        params, data = {"zone": zone, "revision": revision}, text.encode()
        if len(data) <= _INLINE:
            await self._asked(self._change, "dns.change", {**params, "changes": text})
        elif len(data) <= _LIMIT:
            content = hashlib.sha256(data).hexdigest()
            await self._asked(self._change, "dns.change", {**params, "content": content}, (data,))
        else:
            raise ProviderFailed(
                f"{len(changes)} changes of the zone {zone} are {len(data)} bytes: PowerDNS takes {_LIMIT} at once",
                hint="change it in parts",
            )

    async def addresses(self, zone: str) -> list[tuple[str, str, int]]:
        """See DnsProvider."""
        page = await self._page(zone, 0)
        found = [(fqdn(name), address, port) for name, address, port in self._new.servers]
        with _understood(zone):
            return [server for server in found if server[0] in page["nameservers"]]

    async def ds(self, zone: str) -> tuple[str, ...]:
        """See DnsProvider."""
        found = await self._asked(self._read, "dns.fetch", {"zone": zone, "ds": True})
        with _understood(zone):
            return tuple(map(str, found["ds"]))

    async def _page(self, zone: str, offset: int) -> Mapping[str, Any]:
        return await self._asked(self._read, "dns.fetch", {"zone": zone, "offset": offset})

    async def _asked(
        self, ask: Ask, action: str, params: Mapping[str, Any], blobs: tuple[bytes, ...] = ()
    ) -> Mapping[str, Any]:
        """What failed there is the provider's failure; what kept us from asking is not."""
        try:
            return await ask(action, params, blobs)
        except PlanChanged as error:
            if error.code == "zone-changed":
                raise zone_changed(str(params["zone"])) from error
            raise
        except ActionFailed as error:
            if error.code == "no-zone":
                raise no_zone("PowerDNS", str(params["zone"])) from error
            raise ProviderFailed(error.message, hint=error.hint, server=error.server) from error


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """An answer of another shape is the server's failure, and not ours. Raises ProviderFailed."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ProviderFailed(f"what PowerDNS has of {what} cannot be read: {error!r}") from error


def _served(found: Mapping[str, Any]) -> Served:
    """Of several comments the one that is a mark counts, wherever it stands."""
    owner = next((comment for comment in found["comments"] if comment.startswith(_MARK)), "")
    return Served(RRset(found["name"], found["type"], found["ttl"] or 0, tuple(found["values"])), owner)


def _wanted(change: Change) -> dict[str, Any]:
    """As dns.change reads it."""
    if change.after:
        rrset = change.after.rrset
        about = {"name": rrset.name, "type": rrset.type, "ttl": rrset.ttl, "values": list(rrset.values)}
        return {**about, "mark": change.after.owner}
    if change.before:
        return {"name": change.before.rrset.name, "type": change.before.rrset.type}
    raise ValueError("a change from nothing to nothing")
