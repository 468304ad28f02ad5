"""What each authoritative name server says, asked directly: no cache in between, by UDP and by TCP (RFC 7766)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from serverflow_actions.kit.rrset import RRset

if TYPE_CHECKING:
    import dns.message
    import dns.rrset

PROTOCOLS = ("udp", "tcp")
#: Seconds for one question; name servers answer in milliseconds.
TIMEOUT = 2.0
#: The EDNS buffer that passes every network unfragmented (https://www.dnsflagday.net/2020/).
_PAYLOAD = 1232
#: Seconds between rounds, the first and the longest; each is twice the one before.
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: What a machine without IPv6 (or without a network) says at once. A host that is down says something else.
_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

#: macOS lets a process have 256 files.
_MOST_SOCKETS = 128

#: Name, address and port, as DnsProvider.addresses gives them.
Server = tuple[str, str, int]


class Answer(NamedTuple):
    """Of one server by one protocol. `problem` says why there is none: then the rest is empty. `unroutable`: this
    machine has no way to that address at all, which is mostly IPv6. `ttl` and `values` are those of the rrset that was
    asked for, `values` in dnspython's spelling; `alias` is where a CNAME points that stands there instead.
    `truncated`: TCP has the whole.
    """

    protocol: str
    problem: str = ""
    unroutable: bool = False
    rcode: str = ""
    authoritative: bool = False
    truncated: bool = False
    ttl: int = 0
    values: tuple[str, ...] = ()
    alias: str = ""


class Disagreement(NamedTuple):
    """A server that does not serve what is wanted, and what it does instead, as part of a sentence."""

    name: str
    address: str
    port: int
    protocol: str
    instead: str


class Serial(NamedTuple):
    """Of a zone's SOA at one server (RFC 1035 section 3.3.13). Without one `problem` says why."""

    server: Server
    serial: int | None
    problem: str = ""


async def ask(address: str, port: int, name: str, type: str, *, timeout: float = TIMEOUT) -> tuple[Answer, Answer]:
    """Ask for one rrset by UDP and by TCP at once. Never raises for what a server or the network does."""
    first, second = await asyncio.gather(*(_ask(address, port, name, type, how, timeout) for how in PROTOCOLS))
    return first, second


async def disagreeing(
    servers: Sequence[Server], wanted: RRset, timeout: float, *, each: float = TIMEOUT
) -> list[Disagreement]:
    """Who does not serve `wanted` yet when `timeout` seconds are over; [] as soon as all do. All are asked once at
    least, with `each` seconds for the answer. A `wanted` without values is not to be there; its TTL of 0 is any.

    Where a wildcard or a proxy answers in place of the rrset, the caller says what is to be seen. An address that this
    machine cannot reach at all counts only if none of that server's can be reached.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    waiting = list(dict.fromkeys(servers))
    settled: set[str] = set()
    pause, patience = _PAUSE, each
    while True:
        asked = [ask(address, port, wanted.name, wanted.type, timeout=patience) for _, address, port in waiting]
        found: list[tuple[Server, list[tuple[Answer, str]]]] = []
        for server, answers in zip(waiting, await asyncio.gather(*asked), strict=True):
            wrong = [(answer, said) for answer in answers if (said := _instead(answer, wanted))]
            if wrong:
                found.append((server, wrong))
            else:
                settled.add(server[0])
        heard = settled | {server[0] for server, wrong in found if not all(answer.unroutable for answer, _ in wrong)}
        left = [
            Disagreement(*server, answer.protocol, said)
            for server, wrong in found
            for answer, said in wrong
            if not (answer.unroutable and server[0] in heard)
        ]
        if not left or loop.time() + pause >= end:
            return left
        waiting = [server for server, _ in found]
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        patience = max(0.05, min(each, end - loop.time()))


async def all_disagreeing(
    servers: Sequence[Server], wanted: Sequence[RRset], timeout: float
) -> list[list[Disagreement]]:
    """`disagreeing` for each rrset, in the same time or in that of one question each, with so few sockets at once that
    a process may have them (getrlimit(2)).
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    turn = asyncio.Semaphore(max(1, _MOST_SOCKETS // (len(PROTOCOLS) * max(1, len(servers)))))

    async def one(rrset: RRset) -> list[Disagreement]:
        async with turn:
            return await disagreeing(servers, rrset, end - loop.time())

    return list(await asyncio.gather(*map(one, wanted)))


def is_comparable(rrset: RRset) -> bool:
    """Whether servers can be asked for it and their answers held against it: not where its type is the provider's own
    (as PowerDNS' ALIAS), or where it is damaged.
    """
    import dns.exception

    try:
        _query(rrset.name, rrset.type)
    except dns.exception.DNSException:
        return False
    return _wire(rrset.type, rrset.values) is not None


async def serials(servers: Sequence[Server], zone: str, *, timeout: float = TIMEOUT) -> list[Serial]:
    """The zone's serial at each server, by the first protocol that answers."""

    async def one(server: Server) -> Serial:
        answers = await ask(server[1], server[2], zone, "SOA", timeout=timeout)
        for answer in answers:
            if answer.authoritative and answer.values:
                return Serial(server, int(answer.values[0].split()[2]))
        return Serial(server, None, _no_answer(answers[0]) or "it has no SOA for the zone")

    return list(await asyncio.gather(*(one(server) for server in servers)))


async def _ask(address: str, port: int, name: str, type: str, protocol: str, timeout: float) -> Answer:
    import dns.asyncquery
    import dns.exception

    try:
        query = _query(name, type)
    except dns.exception.DNSException as error:
        return Answer(protocol, f"there is no such question: {error}")
    send: Callable[..., Any] = dns.asyncquery.udp if protocol == "udp" else dns.asyncquery.tcp
    # A datagram of somebody else is not an answer and does not end the wait for one.
    more = {"ignore_unexpected": True, "ignore_errors": True} if protocol == "udp" else {}
    try:
        async with asyncio.timeout(timeout):
            response = await send(query, address, port=port, **more)
    except (TimeoutError, dns.exception.Timeout):
        return Answer(protocol, "no answer")
    except ConnectionRefusedError:
        return Answer(protocol, "it refuses connections")
    except (dns.exception.DNSException, EOFError):
        return Answer(protocol, "its answer cannot be read")
    except OSError as error:
        return Answer(protocol, error.strerror or str(error), unroutable=error.errno in _NO_WAY)
    return _read(response, query, protocol)


def _query(name: str, type: str) -> dns.message.QueryMessage:
    """Raises DNSException for a name or type that there is not."""
    import dns.message

    # Recursion is not desired: a resolver would answer from elsewhere.
    return dns.message.make_query(name, type, use_edns=0, payload=_PAYLOAD, flags=0)


def _read(response: dns.message.Message, query: dns.message.Message, protocol: str) -> Answer:
    import dns.flags
    import dns.rcode
    import dns.rdatatype

    question = query.question[0]  # who refuses may leave it out of the answer
    rcode = dns.rcode.to_text(response.rcode())
    authoritative = bool(response.flags & dns.flags.AA)
    truncated = bool(response.flags & dns.flags.TC)

    def there(section: list[dns.rrset.RRset], type: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        return next((rrset for rrset in section if (rrset.name, rrset.rdtype) == (question.name, type)), None)

    rrset = there(response.answer, question.rdtype)
    if rrset is None and not authoritative and not response.answer:
        # At a delegation and below it the zone's own NS and glue come in a referral (RFC 1034 section 4.3.2).
        rrset = there(response.authority, question.rdtype) or there(response.additional, question.rdtype)
        authoritative = rrset is not None
    cname = there(response.answer, dns.rdatatype.CNAME) if rrset is None else None
    return Answer(
        protocol,
        rcode=rcode,
        authoritative=authoritative,
        truncated=truncated,
        ttl=rrset.ttl if rrset else 0,
        values=tuple(sorted(rdata.to_text() for rdata in rrset)) if rrset else (),
        alias=cname[0].to_text() if cname else "",
    )


def _no_answer(answer: Answer) -> str:
    """Why it tells nothing about the rrset, "" if it does."""
    if answer.problem:
        return answer.problem
    if answer.rcode not in ("NOERROR", "NXDOMAIN"):
        return f"it answers {answer.rcode}"
    if not answer.authoritative:
        return "it is not authoritative for the zone"
    if answer.truncated and answer.protocol == "tcp":
        return "its answer is cut off"
    return ""


def _instead(answer: Answer, wanted: RRset) -> str:
    """Why this answer is not what is wanted, "" if it is."""
    if said := _no_answer(answer):
        return said
    if answer.truncated:
        return ""  # TCP is asked for the rest
    if not _same(answer.values, wanted):
        if answer.values:
            return "it has " + ", ".join(answer.values)
        return f"it has a CNAME to {answer.alias}" if answer.alias else "it has nothing there"
    if wanted.values and wanted.ttl and answer.ttl != wanted.ttl:
        return f"it has a TTL of {answer.ttl} s"
    return ""


def _same(values: Sequence[str], wanted: RRset) -> bool:
    """Compared as they go over the wire: two readers of DNS spell one value differently. What one of them cannot read
    is another value than any that it can.
    """
    there, here = _wire(wanted.type, values), _wire(wanted.type, wanted.values)
    return sorted(values) == sorted(wanted.values) if there is None or here is None else there == here


def _wire(type: str, texts: Sequence[str]) -> set[bytes] | None:
    """None for what is no value of the type."""
    import dns.exception
    import dns.rdata

    try:
        return {dns.rdata.from_text("IN", type, text, relativize=False).to_digestable() for text in texts}
    except (dns.exception.DNSException, ValueError):
        return None
