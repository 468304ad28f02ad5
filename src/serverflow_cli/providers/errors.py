"""What goes wrong with a provider, whichever it is."""

from __future__ import annotations

from ..errors import PlanChanged, ProviderError


class ProviderFailed(ProviderError):
    """The provider refused or did not answer. The message holds its own words and codes, and no secret."""


class NoZone(ProviderError):
    """The account or server does not have this zone."""

    default_code = "no-zone"


class ZoneChanged(PlanChanged):
    """Somebody changed the zone since we looked at it. Nothing was done."""

    default_code = "zone-changed"


def no_zone(provider: str, zone: str) -> NoZone:
    """The same sentence from every provider."""
    return NoZone(f"{provider} has no zone {zone}", hint="sf dns zone list")


def zone_changed(zone: str) -> ZoneChanged:
    """The same sentence from every provider."""
    return ZoneChanged(
        f"somebody changed the zone {zone} since the plan was made; nothing was done", hint="sf dns plan shows it anew"
    )
