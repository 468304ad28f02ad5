"""PowerDNS as a provider: what it asks of the server, and what it makes of the answers. The suite of the seam runs
against a real one: tests/targets/test_dns_contract.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from serverflow_actions.kit.rrset import RRset
from serverflow_cli.errors import ActionFailed, PlanChanged, SfError, Unreachable
from serverflow_cli.model.zone import Change, Served
from serverflow_cli.providers.errors import NoZone, ProviderFailed, ZoneChanged
from serverflow_cli.providers.powerdns import NewZones, PowerDns

_REVISION = "0" * 64
_SERVERS = (("ns1.acme.test", "192.0.2.1", 53), ("ns2.acme.test.", "192.0.2.2", 53), ("old.test.", "192.0.2.3", 53))
_WWW = Served(RRset("www.acme.test.", "A", 60, ("192.0.2.1",)), "serverflow 0123abcd")


class Primary:
    """Answers in their order; an error is raised."""

    def __init__(self, *answers: Mapping[str, Any] | SfError) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, Any], tuple[bytes, ...]]] = []

    async def __call__(self, action: str, params: Mapping[str, Any], blobs: tuple[bytes, ...]) -> Mapping[str, Any]:
        self.asked.append((action, params, blobs))
        answer = self._answers.pop(0)
        if isinstance(answer, SfError):
            raise answer
        return answer


def provider(primary: Primary, **new: Any) -> PowerDns:
    return PowerDns(primary, primary, NewZones(_SERVERS, **new))


def page(*rrsets: Served, revision: str = _REVISION, more: int = 0) -> dict[str, Any]:
    found = [{**each.rrset._asdict(), "comments": ["a note", each.owner] if each.owner else []} for each in rrsets]
    names = ["ns1.acme.test.", "ns2.acme.test."]
    return {"zone": "acme.test.", "revision": revision, "nameservers": names, "rrsets": found, "next": more}


def zones(*found: tuple[str, str]) -> dict[str, Any]:
    return {"zones": [{"zone": name, "kind": kind} for name, kind in found]}


def test_pages_of_one_revision_are_one_zone() -> None:
    mail = Served(RRset("mail.acme.test.", "A", 60, ("192.0.2.1",)))
    primary = Primary(page(_WWW, more=1), page(mail))
    state = asyncio.run(provider(primary).fetch("acme.test"))
    assert state.rrsets == (_WWW, mail)
    assert [params["offset"] for _, params, _ in primary.asked] == [0, 1]


def test_a_zone_that_changes_meanwhile_is_read_again() -> None:
    other = page(_WWW, revision="1" * 64)
    primary = Primary(page(_WWW, more=1), other, other)
    assert asyncio.run(provider(primary).fetch("acme.test")).revision == "1" * 64
    for_ever = Primary(*[page(_WWW, more=1), other] * 3)
    with pytest.raises(ProviderFailed, match="all the time"):
        asyncio.run(provider(for_ever).fetch("acme.test"))


def test_records_that_are_odd_are_shown_as_they_are() -> None:
    """RFC 2317's names, escapes, types of PowerDNS' own, no value, no TTL."""
    odd = [
        RRset("0/25.acme.test.", "NS", 60, ("ns.acme.test.",)),
        RRset("a\\.b.acme.test.", "A", 60, ("192.0.2.1",)),
        RRset("x.acme.test.", "ALIAS", 60, ("www.acme.test",)),
        RRset("empty.acme.test.", "A", 60, ("",)),
    ]
    found = page(*map(Served, odd))
    found["rrsets"].append({"name": "n.acme.test.", "type": "A", "ttl": None, "values": ["192.0.2.1"], "comments": []})
    state = asyncio.run(provider(Primary(found)).fetch("acme.test"))
    assert [each.rrset for each in state.rrsets] == [*odd, RRset("n.acme.test.", "A", 0, ("192.0.2.1",))]
    assert {each.owner for each in state.rrsets} == {""}


def test_the_ds_is_what_the_server_says() -> None:
    primary = Primary({**page(), "ds": ["1 13 2 ab"]}, {**page(), "ds": []}, ActionFailed("no keys", code="no-zone"))
    dns = provider(primary)
    assert asyncio.run(dns.ds("acme.test.")) == ("1 13 2 ab",)
    assert asyncio.run(dns.ds("acme.test.")) == ()
    with pytest.raises(NoZone):
        asyncio.run(dns.ds("acme.test."))
    assert all(asked[:2] == ("dns.fetch", {"zone": "acme.test.", "ds": True}) for asked in primary.asked)


def test_only_zones_that_are_kept_there() -> None:
    primary = Primary(
        zones(("b.test.", "primary"), ("c.invalid.", "producer"), ("a.test.", "primary"), ("d.", "secondary"))
    )
    assert asyncio.run(provider(primary).zones()) == ["a.test.", "b.test."]


def test_a_new_zone_has_what_all_have() -> None:
    primary = Primary(zones(), {})
    dns = provider(primary, transfer_key="xfer", also_notify=("192.0.2.2",), catalog="catalog.invalid")
    asyncio.run(dns.add("acme.test"))
    assert primary.asked[1][:2] == (
        "dns.zone",
        {
            "zone": "acme.test",
            "kind": "primary",
            "nameservers": ["ns1.acme.test", "ns2.acme.test.", "old.test."],
            "transfer-key": "xfer",
            "also-notify": ["192.0.2.2"],
            "catalog": "catalog.invalid",
        },
    )
    there = Primary(zones(("acme.test.", "primary")))
    asyncio.run(provider(there).add("ACME.test"))
    assert len(there.asked) == 1


def test_addresses_are_those_of_the_zones_name_servers() -> None:
    found = asyncio.run(provider(Primary(page())).addresses("acme.test."))
    assert found == [("ns1.acme.test.", "192.0.2.1", 53), ("ns2.acme.test.", "192.0.2.2", 53)]


def test_few_changes_are_a_parameter_and_many_a_blob() -> None:
    primary = Primary({}, {})
    dns = provider(primary)
    asyncio.run(dns.apply("acme.test.", [Change(None, _WWW), Change(_WWW, None)], _REVISION))
    (_, params, blobs), text = primary.asked[0], json.loads(str(primary.asked[0][1]["changes"]))
    assert blobs == () and params["revision"] == _REVISION
    assert text == [
        {"name": "www.acme.test.", "type": "A", "ttl": 60, "values": ["192.0.2.1"], "mark": "serverflow 0123abcd"},
        {"name": "www.acme.test.", "type": "A"},
    ]
    asyncio.run(dns.apply("acme.test.", [Change(None, _WWW)] * 1000, _REVISION))
    _, params, (blob,) = primary.asked[1]
    assert "changes" not in params and len(json.loads(blob)) == 1000
    with pytest.raises(ProviderFailed, match="at once"):
        asyncio.run(dns.apply("acme.test.", [Change(None, _WWW)] * 10_000, _REVISION))
    asyncio.run(dns.apply("acme.test.", [], _REVISION))
    assert len(primary.asked) == 2


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (PlanChanged("x", code="zone-changed"), ZoneChanged),
        (PlanChanged("x", code="plan-changed"), PlanChanged),
        (ActionFailed("x", code="no-zone"), NoZone),
        (ActionFailed("PowerDNS: Conflicts"), ProviderFailed),
        (Unreachable("x"), Unreachable),
    ],
)
def test_whose_failure_it_is(error: SfError, becomes: type[SfError]) -> None:
    with pytest.raises(becomes) as found:
        asyncio.run(provider(Primary(error)).apply("acme.test.", [Change(None, _WWW)], _REVISION))
    assert type(found.value) is becomes


def test_a_revision_of_nobody_is_an_old_one() -> None:
    with pytest.raises(ZoneChanged):
        asyncio.run(provider(Primary(page())).apply("acme.test.", [Change(None, _WWW)], "0"))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {**page(_WWW), "rrsets": 7},
        {**page(_WWW), "rrsets": [{"name": "www.acme.test."}]},
        {**page(_WWW), "next": "later"},
        page(_WWW, more=-1),
    ],
)
def test_an_answer_of_another_shape_is_its_failure(answer: Mapping[str, Any]) -> None:
    """As of a server that somebody has taken over."""
    primary = Primary(*[answer] * 9)
    with pytest.raises(ProviderFailed, match="cannot be read"):
        asyncio.run(provider(primary).fetch("acme.test"))
    for asked in provider(Primary({"zones": 7})).zones(), provider(Primary({})).ds("acme.test"):
        with pytest.raises(ProviderFailed, match="cannot be read"):
            asyncio.run(asked)


def test_pages_that_do_not_end_are_not_read_for_ever() -> None:
    primary = Primary(*[page(_WWW, more=1)] * 9)
    with pytest.raises(ProviderFailed, match="cannot be read"):
        asyncio.run(provider(primary).fetch("acme.test"))
    assert len(primary.asked) < 9
