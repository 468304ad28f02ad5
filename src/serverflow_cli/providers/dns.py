"""The seam of DNS: what every provider of zones can do. One suite holds for all of them: tests/contract/dns.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..model.zone import Change, ZoneState


class DnsProvider(Protocol):
    """Zone names are absolute, with the final dot. All methods raise SfError: NoZone for one that is not there,
    ProviderFailed (exit code 7) with the provider's words for everything else that is the provider's.
    """

    async def zones(self) -> list[str]:
        """The names of all zones that this account or server has."""
        ...

    async def add(self, zone: str) -> None:
        """Make an empty zone. One that is there already is left as it is."""
        ...

    async def remove(self, zone: str) -> None:
        """With all its records."""
        ...

    async def fetch(self, zone: str) -> ZoneState:
        """What it has now, straight from its database and not by DNS."""
        ...

    async def apply(self, zone: str, changes: Sequence[Change], revision: str) -> None:
        """All changes or none. Raises ZoneChanged (exit code 9) when the zone is not at `revision` any more, and
        changes nothing then.
        """
        ...

    async def addresses(self, zone: str) -> list[tuple[str, str, int]]:
        """Where each authoritative server answers: its name, address and port, as (name, address, port)."""
        ...

    async def ds(self, zone: str) -> tuple[str, ...]:
        """The DS records that the parent of a signed zone has to publish, `TAG ALGORITHM KIND HASH` each; () for one
        that is not signed.
        """
        ...
