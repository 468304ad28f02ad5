"""An authoritative name server for the records of a FakeZone, by UDP and TCP on one loopback port."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from .cloudflare_zone import FakeZone, Record


class NameServer:
    """`late` takes records out of its answers, as a server that has not heard yet."""

    def __init__(self, zone: Callable[[], FakeZone | None]) -> None:
        self._zone = zone
        self.late: Callable[[str], bool] = lambda name: False

    def __enter__(self) -> NameServer:
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, channel = self.request
                channel.sendto(outer.reply(data), self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                (length,) = struct.unpack("!H", self.request.recv(2, socket.MSG_WAITALL))
                answer = outer.reply(self.request.recv(length, socket.MSG_WAITALL))
                self.request.sendall(struct.pack("!H", len(answer)) + answer)

        self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tcp)
        self._udp = socketserver.ThreadingUDPServer(self._tcp.server_address, Udp)
        for server in self._tcp, self._udp:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._tcp, self._udp:
            server.shutdown()
            server.server_close()

    @property
    def port(self) -> int:
        return int(self._tcp.server_address[1])

    def reply(self, raw: bytes) -> bytes:
        query = dns.message.from_wire(raw)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        asked, zone = query.question[0], self._zone()
        if zone is None:
            answer.set_rcode(dns.rcode.REFUSED)
            return answer.to_wire()
        if asked.rdtype == dns.rdatatype.SOA:
            answer.answer.append(dns.rrset.from_text(asked.name, 300, "IN", "SOA", "ns. host. 1 2 3 4 5"))
            return answer.to_wire()
        name, kind = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
        found = [
            record
            for record in zone.records.values()
            if record["name"] == name and record["type"] == kind and not self.late(name)
        ]
        if found:
            texts = [_presentation(record) for record in found]
            ttl = 300 if found[0]["ttl"] == 1 else found[0]["ttl"]
            answer.answer.append(dns.rrset.from_text_list(asked.name, ttl, "IN", kind, texts))
        return answer.to_wire()


def _presentation(record: Record) -> str:
    """Cloudflare leaves the final dot of names out."""
    text = str(record["content"])
    if record["type"] in ("CNAME", "MX", "NS", "PTR", "SRV"):
        text += "."
    return f"{record['priority']} {text}" if record["type"] == "MX" else text
