"""Who is asked again when a TSIG key gets another secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakehost import FakeHost, FakeProbe, Powers, Server, debian

from serverflow_actions import registry
from serverflow_actions.dns._rows import keys
from serverflow_actions.kit import engine
from serverflow_actions.kit.probe import HostError
from serverflow_actions.kit.spec import parse

_SQL = (
    "insert into domains (id, name, type, catalog) values (1, 'catalog.invalid', 'CONSUMER', ''),"
    " (2, 'member.test', 'SLAVE', 'catalog.invalid'), (3, 'own.test', 'SLAVE', ''), (4, 'other.test', 'SLAVE', ''),"
    " (5, 'kept.test', 'MASTER', '');",
    "insert into domainmetadata (domain_id, kind, content) values (1, 'AXFR-MASTER-TSIG', 'xfer.'),"
    " (3, 'AXFR-MASTER-TSIG', 'xfer'), (4, 'AXFR-MASTER-TSIG', 'another'), (5, 'TSIG-ALLOW-AXFR', 'xfer');",
    "insert into tsigkeys (name, algorithm, secret) values ('xfer', 'hmac-sha256', 'old');",
)


_SECRET = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_KEY = registry.load("dns.key")


class _Host(FakeHost):
    """It knows which zones PowerDNS was told to fetch."""

    def __init__(self, server: Server, *, fails: bool = False) -> None:
        super().__init__(server, Powers(host_verbs=tuple(_KEY.host_verbs)))
        self.fetched: list[str] = []
        self._fails = fails

    def powerdns_do(self, call: str, body: Mapping[str, Any] | None = None, **names: str) -> None:
        if call == "retrieve" and self._fails:
            raise HostError("PowerDNS: Domain is not a secondary (HTTP 422)")
        super().powerdns_do(call, body, **names)
        if call == "retrieve":
            self.fetched.append(names["zone"])


def _replaced(host: _Host, server: Server) -> list[str]:
    params = parse(_KEY.params, {"name": "xfer", "secret": _SECRET})
    engine.run(_KEY, params, FakeProbe(server), host, lambda _: None)
    assert keys(host)["xfer."].secret == _SECRET
    return host.fetched


def test_zones_that_are_fetched_with_the_key_are_fetched_at_once() -> None:
    """By themselves they would be an hour later, after a longer time with the wrong secret."""
    server = debian({"powerdns": {"roles": ["secondary"], "sql": _SQL}})
    assert _replaced(_Host(server), server) == ["catalog.invalid.", "member.test.", "own.test."]


def test_what_cannot_be_fetched_does_not_spoil_the_change() -> None:
    server = debian({"powerdns": {"roles": ["secondary"], "sql": _SQL}})
    assert _replaced(_Host(server, fails=True), server) == []
