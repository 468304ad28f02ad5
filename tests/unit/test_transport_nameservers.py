"""Name servers that lag, are dead, answer halfway or are not authoritative, and who is named for it."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from serverflow_actions.kit.rrset import RRset, rrset
from serverflow_cli.transport.nameservers import (
    Disagreement,
    Serial,
    Server,
    all_disagreeing,
    ask,
    disagreeing,
    is_comparable,
    serials,
)

ZONE = "acme.test."
WWW = rrset("www", "A", 300, ["192.0.2.1", "192.0.2.2"], ZONE)
OLD = "www.acme.test. 300 IN A 192.0.2.9"
NEW = "www.acme.test. 300 IN A 192.0.2.2 192.0.2.1"
SOA = "acme.test. 3600 IN SOA ns1.acme.test. host.acme.test. {} 7200 900 1209600 300"


@dataclass
class SmallServer:
    """An authoritative server for one zone. `lines`: rrsets in presentation format; `referral`: those of the authority
    and additional sections in place of an answer. `late`: what it has from a number of questions on.
    """

    lines: list[str] = field(default_factory=list)
    late: tuple[int, list[str]] = (0, [])
    referral: tuple[list[str], list[str]] = ((), ())  # type: ignore[assignment]
    authoritative: bool = True
    udp: bool = True
    tcp: bool = True
    truncated: tuple[str, ...] = ()
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    garbage: bool = False
    bare: bool = False
    asked: list[dns.message.Message] = field(default_factory=list)
    port: int = 0

    def reply(self, raw: bytes, protocol: str) -> bytes:
        """The answer to one question, and a note of it."""
        query = dns.message.from_wire(raw)
        self.asked.append(query)
        if self.garbage:
            return raw[:7]
        if self.late[1] and len(self.asked) >= self.late[0]:
            self.lines = self.late[1]
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        if self.authoritative and not self.referral[0]:
            response.flags |= dns.flags.AA
        name, type = query.question[0].name, query.question[0].rdtype
        there = [found for found in _rrsets(self.lines) if found.name == name]
        response.answer = [found for found in there if found.rdtype in (type, dns.rdatatype.CNAME)]
        response.authority, response.additional = (_rrsets(lines) for lines in self.referral)
        if not there and not self.referral[0] and not self.rcode:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.bare:
            response.question = []
        if protocol in self.truncated:
            response.flags |= dns.flags.TC
            response.answer = []
        return response.to_wire()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """On a loopback port for as long as a test takes."""
        server, transport = await self._bound()
        self.port = server.sockets[0].getsockname()[1]
        if not self.tcp:
            server.close()
            await server.wait_closed()
        if not self.udp:
            transport.close()
        try:
            yield (f"ns{self.port}.acme.test.", "127.0.0.1", self.port)
        finally:
            server.close()
            transport.close()

    async def _bound(self) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
        loop = asyncio.get_running_loop()
        while True:
            server = await asyncio.start_server(self._stream, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), address)
                return server, transport
            except OSError:  # somebody has that port for UDP
                server.close()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self.reply(raw, "tcp")
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: SmallServer) -> None:
        self.server = server

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.server.reply(data, "udp"), addr)


def _rrsets(lines: Any) -> list[dns.rrset.RRset]:
    found = []
    for line in lines:
        name, ttl, klass, type, *values = line.split(maxsplit=4)
        texts = values[0].split() if type in ("A", "AAAA") else values
        found.append(dns.rrset.from_text(name, int(ttl), klass, type, *texts))
    return found


def found(server: SmallServer, wanted: RRset = WWW, timeout: float = 0, **more: Any) -> dict[str, str]:
    """What is wrong with one server, by protocol."""

    async def whole() -> dict[str, str]:
        async with server.running() as one:
            wrong = await disagreeing([one], wanted, timeout, **{"each": 1.0, **more})
            assert all(d[:3] == one for d in wrong)
            return {d.protocol: d.instead for d in wrong}

    return asyncio.run(whole())


def both(said: str) -> dict[str, str]:
    return {"udp": said, "tcp": said}


def test_a_server_that_serves_it_is_not_named_whatever_the_order_of_values() -> None:
    assert found(SmallServer([NEW])) == {}


def test_questions_are_for_an_authoritative_server() -> None:
    server = SmallServer([NEW])
    found(server)
    assert len(server.asked) == 2
    for query in server.asked:
        assert not query.flags & dns.flags.RD
        assert (query.edns, query.payload) == (0, 1232)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (SmallServer([OLD]), "it has 192.0.2.9"),
        (SmallServer(["www.acme.test. 60 IN A 192.0.2.1 192.0.2.2"]), "it has a TTL of 60 s"),
        (SmallServer([]), "it has nothing there"),
        (SmallServer(["www.acme.test. 300 IN CNAME other.test."]), "it has a CNAME to other.test."),
        (SmallServer([NEW], authoritative=False), "it is not authoritative for the zone"),
        (SmallServer([], authoritative=False), "it is not authoritative for the zone"),
        (SmallServer([], rcode=dns.rcode.REFUSED, authoritative=False), "it answers REFUSED"),
        (SmallServer([], rcode=dns.rcode.REFUSED, authoritative=False, bare=True), "it answers REFUSED"),
        (SmallServer([], rcode=dns.rcode.SERVFAIL), "it answers SERVFAIL"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_it_says_instead(server: SmallServer, said: str) -> None:
    assert found(server) == both(said)


def test_one_protocol_alone_is_not_enough() -> None:
    assert found(SmallServer([NEW], tcp=False)) == {"tcp": "it refuses connections"}
    assert found(SmallServer([NEW], udp=False), each=0.2) == {"udp": "no answer"}
    assert found(SmallServer([], udp=False, tcp=False), each=0.2) == {
        "udp": "no answer",
        "tcp": "it refuses connections",
    }


def test_an_answer_cut_off_over_udp_is_right_and_over_tcp_is_not() -> None:
    assert found(SmallServer([NEW], truncated=("udp",))) == {}
    assert found(SmallServer([OLD], truncated=("udp",))) == {"tcp": "it has 192.0.2.9"}
    assert found(SmallServer([NEW], truncated=("udp", "tcp"))) == {"tcp": "its answer is cut off"}


def test_garbage_is_no_answer() -> None:
    assert found(SmallServer([NEW], garbage=True), each=0.2) == {"udp": "no answer", "tcp": "its answer cannot be read"}


def test_absence_is_wanted_too() -> None:
    gone = WWW._replace(values=())
    assert found(SmallServer([]), gone) == {}
    assert found(SmallServer(["www.acme.test. 300 IN AAAA 2001:db8::1"]), gone) == {}
    assert found(SmallServer(["www.acme.test. 300 IN CNAME other.test."]), gone) == {}
    assert found(SmallServer([OLD]), gone) == both("it has 192.0.2.9")
    assert found(SmallServer([], authoritative=False), gone) == both("it is not authoritative for the zone")


def test_a_ttl_that_the_provider_chooses_is_any() -> None:
    assert found(SmallServer([NEW]), WWW._replace(ttl=0)) == {}


@pytest.mark.parametrize(
    ("type", "value", "served"),
    [
        ("TXT", '"a" "b; \\"c\\""', '"a" "b\\; \\"c\\""'),
        ("HTTPS", "1 . alpn=h2,h3", '1 . alpn="h2,h3"'),
        ("SSHFP", "4 2 " + "ab" * 32, "4 2 " + "AB" * 32),
        ("CNAME", "other.test.", "OTHER.test."),
    ],
)
def test_other_spellings_are_the_same(type: str, value: str, served: str) -> None:
    wanted = rrset("www", type, 300, [value], ZONE)
    assert found(SmallServer([f"www.acme.test. 300 IN {type} {served}"]), wanted) == {}


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("A", ""),
        ("A", "x"),
        ("TXT", '"'),
        ("TXT", "\\999"),
        ("MX", "99999999 a."),
        ("TLSA", "3 1 1 zz"),
        ("ALIAS", "www."),
    ],
)
def test_what_nobody_can_read_differs_and_ends_nothing(type: str, value: str) -> None:
    """A provider may have values that are none, and types of its own."""
    damaged = RRset("www.acme.test.", type, 300, (value,))
    assert not is_comparable(damaged)
    assert set(found(SmallServer([NEW]), damaged)) == {"udp", "tcp"}


@pytest.mark.parametrize("name", ["a\\300.acme.test.", f"{'k' * 64}.acme.test.", "a..acme.test."])
def test_a_name_that_there_is_not_ends_nothing(name: str) -> None:
    assert not is_comparable(WWW._replace(name=name))
    assert "there is no such question" in found(SmallServer([NEW]), WWW._replace(name=name))["tcp"]


@pytest.mark.parametrize("name", ["0/25.acme.test.", "a\\.b.acme.test."])
def test_odd_names_are_asked_for(name: str) -> None:
    assert is_comparable(WWW._replace(name=name))
    assert found(SmallServer([NEW.replace("www.acme.test.", name)]), WWW._replace(name=name)) == {}


def test_without_time_to_wait_all_are_asked_once() -> None:
    server = SmallServer([OLD], late=(3, [NEW]))

    async def whole() -> list[list[Disagreement]]:
        async with server.running() as one:
            return await all_disagreeing([one], [WWW], 0)

    assert len(asyncio.run(whole())[0]) == len(server.asked) == 2


def test_a_wildcard_is_asked_for_by_its_own_name() -> None:
    assert (
        found(SmallServer(["*.web1.acme.test. 300 IN A 192.0.2.1"]), rrset("*.web1", "A", 0, ["192.0.2.1"], ZONE)) == {}
    )


def test_delegations_and_glue_are_found_in_referrals() -> None:
    ns, glue = "sub.acme.test. 300 IN NS ns.sub.acme.test.", "ns.sub.acme.test. 300 IN A 192.0.2.1"
    server = SmallServer(referral=([ns], [glue]))
    assert found(server, rrset("sub", "NS", 300, ["ns.sub.acme.test."], ZONE)) == {}
    assert found(server, rrset("ns.sub", "A", 300, ["192.0.2.1"], ZONE)) == {}
    assert found(server, rrset("ns.sub", "A", 300, ["192.0.2.7"], ZONE)) == both("it has 192.0.2.1")


def test_a_lagging_server_is_waited_for_and_no_longer_than_needed() -> None:
    server = SmallServer([OLD], late=(5, [NEW]))
    began = time.monotonic()
    assert found(server, timeout=30) == {}
    assert time.monotonic() - began < 10
    assert 5 <= len(server.asked) <= 8


def test_only_the_lagging_one_is_asked_again_and_named() -> None:
    quick, slow = SmallServer([NEW]), SmallServer([OLD])

    async def whole() -> None:
        async with quick.running() as one, slow.running() as other:
            wrong = await disagreeing([one, other, other], WWW, 0.4)
            assert wrong == [Disagreement(*other, how, "it has 192.0.2.9") for how in ("udp", "tcp")]

    asyncio.run(whole())
    assert len(quick.asked) == 2
    assert len(slow.asked) > 2


def _unroutable(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    for how in ("udp", "tcp"):
        real: Callable[..., Awaitable[Any]] = getattr(dns.asyncquery, how)

        async def send(query: Any, where: str, _real: Any = real, **more: Any) -> Any:
            if where in addresses:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            return await _real(query, where, **more)

        monkeypatch.setattr(dns.asyncquery, how, send)


def test_an_address_that_we_cannot_reach_counts_only_if_it_is_the_servers_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _unroutable(monkeypatch, "2001:db8::53")

    async def whole(lines: list[str]) -> None:
        async with SmallServer(lines).running() as one:
            beside = (one[0], "2001:db8::53", 53)
            alone = ("ns6.acme.test.", "2001:db8::53", 53)
            own = [] if lines == [NEW] else [Disagreement(*one, how, "it has 192.0.2.9") for how in ("udp", "tcp")]
            assert await disagreeing([beside, one], WWW, 0) == own
            wrong = await disagreeing([alone, one], WWW, 0)
            assert wrong == [Disagreement(*alone, how, "Network is unreachable") for how in ("udp", "tcp")] + own

    asyncio.run(whole([NEW]))
    asyncio.run(whole([OLD]))


def test_many_are_asked_with_few_sockets() -> None:
    """A process may have 256 files on some systems, and a zone thousands of rrsets."""
    import resource

    async def whole() -> None:
        lines = [f"n{number}.acme.test. 300 IN A 192.0.2.1" for number in range(200)]
        async with SmallServer(lines).running() as server:
            wanted = [RRset(f"n{number}.acme.test.", "A", 300, ("192.0.2.1",)) for number in range(200)]
            assert await all_disagreeing([server], wanted, 2.0) == [[]] * 200

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        asyncio.run(whole())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_serials() -> None:
    async def whole() -> None:
        new, old, none = SmallServer([SOA.format(12)]), SmallServer([SOA.format(11)], udp=False), SmallServer([])
        lame = SmallServer([SOA.format(9)], authoritative=False)
        async with new.running() as a, old.running() as b, none.running() as c, lame.running() as d:
            assert await serials([a, b, c, d], ZONE, timeout=0.3) == [
                Serial(a, 12),
                Serial(b, 11),
                Serial(c, None, "it has no SOA for the zone"),
                Serial(d, None, "it is not authoritative for the zone"),
            ]

    asyncio.run(whole())


def test_ask_shows_both_answers() -> None:
    async def whole() -> None:
        async with SmallServer([NEW], tcp=False).running() as (_, address, port):
            udp, tcp = await ask(address, port, WWW.name, "A", timeout=1)
            assert (udp.rcode, udp.authoritative, udp.ttl) == ("NOERROR", True, 300)
            assert udp.values == ("192.0.2.1", "192.0.2.2")
            assert (tcp.protocol, tcp.problem) == ("tcp", "it refuses connections")

    asyncio.run(whole())
