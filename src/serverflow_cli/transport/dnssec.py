"""Whether the chain of trust into a zone holds: its keys, and the DS records of its parent (RFC 4035 section 5).

The zone's own name servers are asked for the keys and those of its parent for the DS, each directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .nameservers import Server, ask

#: By what a DS may stand for a key (RFC 8624 section 3.3); a parent may have taken another one than we handed in.
_DIGESTS = ("SHA1", "SHA256", "SHA384")
_TAKEN = "SHA256"  # by all registrars
#: The bit of a DNSKEY that says that a DS leads to it (RFC 4034 section 2.1.1).
_ENTRY_POINT = 0x0001

#: What each server has, in presentation format; None where it gives no authoritative answer.
Answers = Mapping[Server, tuple[str, ...] | None]


class Trust(NamedTuple):
    """`state` is `unsigned`; `missing`: the parent has no DS yet, so that nobody validates; `matches`; `stale`: the
    parent has one that fits no key, so that whoever validates gets SERVFAIL (bogus, RFC 4033 section 5); or `unknown`.
    `findings` are pairs of severity (error, warning) and sentence.
    """

    state: str
    findings: tuple[tuple[str, str], ...] = ()


async def trust(zone: str, ds: Sequence[str], servers: Sequence[Server], parents: Sequence[Server]) -> Trust:
    """Look at a zone that is served by `servers`, and at its parent's name servers. `ds` is what the provider says that
    the parent has to publish, () for a zone that is not signed.
    """
    keys, above = await asyncio.gather(keys_of(servers, zone), _asked(parents, zone, "DS"))
    return judge(zone, ds, keys, above)


async def keys_of(servers: Sequence[Server], zone: str) -> Answers:
    """The DNSKEY records that each of these serves."""
    return await _asked(servers, zone, "DNSKEY")


def to_hand_in(zone: str, keys: Answers) -> list[str]:
    """The DS that a parent needs for these keys, by the first server that has an answer; [] for a zone that is not
    signed.
    """
    import dns.dnssec
    import dns.rdata
    from dns.rdtypes.ANY.DNSKEY import DNSKEY

    found = next((each for each in keys.values() if each is not None), ())
    rdatas = [dns.rdata.from_text("IN", "DNSKEY", key) for key in found]
    entries = [each for each in rdatas if isinstance(each, DNSKEY) and each.flags & _ENTRY_POINT]
    return sorted(dns.dnssec.make_ds(zone, each, _TAKEN).to_text() for each in entries)


def judge(zone: str, ds: Sequence[str], keys: Answers, above: Answers) -> Trust:
    """What those answers mean together, as `trust` asks for them."""
    fitting = {server: frozenset(_ds_of(zone, found)) for server, found in keys.items() if found is not None}
    findings = [
        ("error", f"{_shown(server)} does not serve the key that the zone is signed with")
        for server, fits in fitting.items()
        if ds and not fits & set(ds)
    ]
    # Without an answer of the zone's own servers the provider's word counts.
    sides = fitting or {("the provider", "as it says", 0): frozenset(ds)}
    state, more = _at_parent(ds, sides, [set(found) for found in above.values() if found is not None])
    return Trust(state, (*findings, *more))


async def _asked(servers: Sequence[Server], zone: str, type: str) -> Answers:
    async def one(server: Server) -> tuple[str, ...] | None:
        for answer in await ask(server[1], server[2], zone, type):
            if answer.authoritative and not answer.truncated and answer.rcode in ("NOERROR", "NXDOMAIN"):
                return answer.values
        return None

    return dict(zip(servers, await asyncio.gather(*map(one, servers)), strict=True))


def _ds_of(zone: str, keys: Sequence[str]) -> Iterator[str]:
    """Every DS that may stand for one of these keys."""
    import dns.dnssec
    import dns.rdata

    for key in keys:
        rdata = dns.rdata.from_text("IN", "DNSKEY", key)
        for digest in _DIGESTS:
            yield dns.dnssec.make_ds(zone, rdata, digest, policy=dns.dnssec.allow_all_policy).to_text()


def _at_parent(
    ds: Sequence[str], sides: Mapping[Server, frozenset[str]], above: Sequence[set[str]]
) -> tuple[str, list[tuple[str, str]]]:
    there: set[str] = set().union(*above)
    if not ds and not there:
        return "unsigned", []
    if not above:
        return "unknown", [("warning", "no name server of the parent zone says whether it has the DS")]
    if not there:
        return "missing", [("warning", f"the parent has no DS, so that nobody validates; to hand in: {_joined(ds)}")]
    broken = [server for server, fits in sides.items() if not fits & there]
    if len(broken) == len(sides):
        instead = f"it has to be {_joined(ds)}" if ds else "the zone is not signed, so it has to go"
        told = f"the parent's DS fits no key, and whoever validates gets SERVFAIL: {_joined(there)}; {instead}"
        return "stale", [("error", told)]
    findings = [
        ("error", f"the parent's DS fits no key of {_shown(each)}: SERVFAIL for who validates") for each in broken
    ]
    if spare := there.difference(*sides.values()):
        findings.append(("warning", f"the parent has another DS that fits no key: {_joined(spare)}"))
    if any(found != there for found in above):
        findings.append(("warning", "the name servers of the parent do not agree about the DS yet"))
    return "matches", findings


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))


def _shown(server: Server) -> str:
    return f"{server[0]} ({server[1]})"
