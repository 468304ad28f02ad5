"""How a zone is found and trusted: the NS and DS that its parent's servers have (RFC 1034 section 4.2.1, RFC 4034
section 5). Whether the DS fit its keys is judged in dnssec.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from .nameservers import Answer, Server, ask

#: Seconds for the resolver, with all its tries.
_LIFETIME = 5.0


class Delegation(NamedTuple):
    """What one server of the parent says. `ds_ttl` in seconds, 0 without DS. `problem`: why it says nothing."""

    server: Server
    nameservers: frozenset[str] = frozenset()
    ds: frozenset[str] = frozenset()
    ds_ttl: int = 0
    problem: str = ""


async def delegations(zone: str) -> list[Delegation]:
    """Of each of the parent's servers that there is a way to; [] where nobody knows them. Never raises for what
    resolvers or servers do.
    """

    async def one(server: Server) -> Delegation | None:
        _, address, port = server
        named = _best(await ask(address, port, zone, "NS"))
        if problem := _problem(named):
            return None if named.unroutable else Delegation(server, problem=problem)
        trusted = _best(await ask(address, port, zone, "DS"))
        names = frozenset(name.lower() for name in named.values)
        return Delegation(server, names, frozenset(map(_ds, trusted.values)), trusted.ttl)

    found = await asyncio.gather(*map(one, await parents(zone)))
    return [each for each in found if each]


async def parents(zone: str) -> list[Server]:
    """Where the servers of the closest zone above answer, by this machine's resolver; [] where it knows none."""
    from dns.asyncresolver import Resolver
    from dns.exception import DNSException
    from dns.name import from_text, root
    from dns.resolver import NXDOMAIN, NoAnswer

    try:
        resolver, above = Resolver(), from_text(zone)
        while above != root:
            above = above.parent()
            try:
                answer = await resolver.resolve(above, "NS", lifetime=_LIFETIME)
            except (NoAnswer, NXDOMAIN):
                continue
            names = sorted(rdata.target.to_text() for rdata in answer)
            looked = [resolver.resolve_name(name, lifetime=_LIFETIME) for name in names]
            found = await asyncio.gather(*looked, return_exceptions=True)
            return [
                (name, address, 53)
                for name, each in zip(names, found, strict=True)
                if not isinstance(each, BaseException)
                for address in each.addresses()
            ]
    except (DNSException, OSError):
        pass
    return []


def _best(answers: Sequence[Answer]) -> Answer:
    return next((each for each in answers if not _problem(each)), answers[0])


def _problem(answer: Answer) -> str:
    if answer.problem or answer.truncated:
        return answer.problem or "its answer is cut off"
    return "" if answer.rcode in ("NOERROR", "NXDOMAIN") else f"it answers {answer.rcode}"


def _ds(text: str) -> str:
    """The digest in one word and lower case, for comparing."""
    tag, algorithm, kind, *digest = text.split()
    return f"{tag} {algorithm} {kind} {''.join(digest).lower()}"
