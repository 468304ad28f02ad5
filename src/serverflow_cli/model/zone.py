"""A zone as a provider has it, and what is to be changed in it."""

from __future__ import annotations

from typing import NamedTuple

from serverflow_actions.kit.rrset import RRset


class Served(NamedTuple):
    """An rrset at its provider. `owner` is the mark of who manages it, "" for nobody that says so. `proxied`: what
    the world sees is the provider's own address (Cloudflare).
    """

    rrset: RRset
    owner: str = ""
    proxied: bool = False


class ZoneState(NamedTuple):
    """All of a zone but what the provider makes itself (SOA, DNSSEC). `revision` changes with any change of it;
    `nameservers` are names without which nobody finds it.
    """

    name: str
    rrsets: tuple[Served, ...]
    revision: str
    nameservers: tuple[str, ...]


class Change(NamedTuple):
    """Of one rrset: without `before` it is made, without `after` it goes."""

    before: Served | None
    after: Served | None
