"""Cloudflare's provider: the contract, and what happens when Cloudflare, the network or a person gets in its way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serverflow_actions.kit.rrset import rrset
from serverflow_cli.model.zone import Change, Served, ZoneState
from serverflow_cli.providers.cloudflare import Cloudflare
from serverflow_cli.providers.dns import DnsProvider
from serverflow_cli.providers.errors import NoZone, ProviderFailed, ZoneChanged

from .cloudflare_server import ALL, FakeCloudflare, Fault
from .cloudflare_zone import FakeZone
from .dns import MARK, DnsContract, Seam

ZONE = "acme.test."
SERVERS = [("ada.ns.cloudflare.test.", "192.0.2.53", 53), ("bob.ns.cloudflare.test.", "2001:db8::53", 53)]


@pytest.fixture
def fake() -> Iterator[FakeCloudflare]:
    with FakeCloudflare() as fake:
        yield fake
        assert fake.complaints == [], "a call does not fit Cloudflare's schema"


def provider(fake: FakeCloudflare, **more: Any) -> Cloudflare:
    return Cloudflare(fake.token, **{"base_url": fake.url, "pauses": (0, 0), "servers": SERVERS, **more})


class TestContract(DnsContract):
    @pytest.fixture
    def seam(self, fake: FakeCloudflare) -> Seam:
        @asynccontextmanager
        async def opened() -> AsyncIterator[DnsProvider]:
            yield provider(fake)

        return Seam(opened, ZONE)


@pytest.fixture
def zone(fake: FakeCloudflare) -> FakeZone:
    """With one record that is not ours."""
    zone = fake.zone("acme.test")
    zone.post({"name": "acme.test", "type": "TXT", "content": '"by hand"', "ttl": 1})
    return zone


def fetch(fake: FakeCloudflare, **more: Any) -> ZoneState:
    return asyncio.run(provider(fake, **more).fetch(ZONE))


def a(owner: str, *values: str, ttl: int = 300, proxied: bool = False) -> Served:
    return Served(rrset(owner, "A", ttl, list(values), ZONE), MARK, proxied)


def apply(fake: FakeCloudflare, *changes: Change, on: str = "", **more: Any) -> None:
    asyncio.run(provider(fake, **more).apply(ZONE, changes, on or fetch(fake).revision))


NEW = Change(None, a("www", "192.0.2.1"))


def batches(fake: FakeCloudflare) -> int:
    return sum(call.endswith("/batch") for call in fake.calls)


# How records look


def test_ttl_1_is_automatic_and_a_proxied_record_has_no_other(fake: FakeCloudflare, zone: FakeZone) -> None:
    apply(fake, Change(None, a("www", "192.0.2.1", ttl=0)), Change(None, a("cdn", "192.0.2.1", ttl=600, proxied=True)))
    assert {r["name"]: (r["ttl"], r["proxied"]) for r in zone.records.values() if r["type"] == "A"} == {
        "www.acme.test": (1, False),
        "cdn.acme.test": (1, True),
    }
    found = {s.rrset.name: s for s in fetch(fake).rrsets}
    assert found["www.acme.test."] == a("www", "192.0.2.1", ttl=0)
    assert found["cdn.acme.test."] == a("cdn", "192.0.2.1", ttl=0, proxied=True)


def test_a_proxied_rrset_whose_ttl_was_asked_for_is_not_sent_again(fake: FakeCloudflare, zone: FakeZone) -> None:
    apply(fake, Change(None, a("cdn", "192.0.2.1", proxied=True)))
    apply(fake, Change(None, a("cdn", "192.0.2.1", ttl=900, proxied=True)))
    assert batches(fake) == 1


def test_records_of_features_are_neither_shown_nor_touched_but_seen(fake: FakeCloudflare, zone: FakeZone) -> None:
    before = fetch(fake)
    mx = {"name": "acme.test", "type": "MX", "content": "route1.mx.cloudflare.test", "priority": 5, "ttl": 1}
    zone.post(mx, {"email_routing": True, "read_only": True})
    assert fetch(fake).rrsets == before.rrsets
    assert fetch(fake).revision != before.revision


def test_a_changed_record_keeps_its_id_and_tags(fake: FakeCloudflare, zone: FakeZone) -> None:
    old = zone.post({"name": "www.acme.test", "type": "A", "content": "192.0.2.1", "ttl": 1, "tags": ["team:web"]})
    apply(fake, Change(Served(rrset("www", "A", 0, ["192.0.2.1"], ZONE)), a("www", "192.0.2.2")))
    (now,) = [r for r in zone.records.values() if r["type"] == "A"]
    assert (now["id"], now["content"], now["tags"]) == (old["id"], "192.0.2.2", ["team:web"])


def test_an_rrset_whose_records_disagree_is_nobodys_and_has_the_lowest_ttl(
    fake: FakeCloudflare, zone: FakeZone
) -> None:
    for value, comment, ttl in (("192.0.2.1", MARK, 600), ("192.0.2.2", "Anna's", 120)):
        zone.post({"name": "www.acme.test", "type": "A", "content": value, "ttl": ttl, "comment": comment})
    found = next(s for s in fetch(fake).rrsets if s.rrset.type == "A")
    assert (found.owner, found.rrset.ttl) == ("", 120)


def test_text_without_quotes_and_other_habits_are_read(fake: FakeCloudflare, zone: FakeZone) -> None:
    zone.post({"name": "Old.acme.test", "type": "TXT", "content": "v=spf1 -all", "ttl": 120})
    zone.post({"name": "six.acme.test", "type": "AAAA", "content": "2001:DB8:0:0::1", "ttl": 120})
    found = {s.rrset.name: s.rrset.values for s in fetch(fake).rrsets}
    assert found["old.acme.test."] == ('"v=spf1 -all"',)
    assert found["six.acme.test."] == ("2001:db8::1",)


def test_a_caa_value_keeps_its_odd_characters(fake: FakeCloudflare, zone: FakeZone) -> None:
    wanted = Served(rrset("@", "CAA", 0, ['0 iodef "https://x.test/?a=\\"b\\\\c\\"d"'], ZONE), MARK)
    apply(fake, Change(None, wanted))
    assert [r["data"]["value"] for r in zone.records.values() if r["type"] == "CAA"] == ['https://x.test/?a="b\\c"d']
    assert wanted in fetch(fake).rrsets


def test_a_type_that_we_do_not_know_is_shown(fake: FakeCloudflare, zone: FakeZone) -> None:
    loc = "51 30 12.748 N 0 7 39.612 W 0.00m 0.00m 0.00m 0.00m"
    zone.post({"name": "acme.test", "type": "LOC", "content": loc, "ttl": 120})
    assert loc in {value for s in fetch(fake).rrsets for value in s.rrset.values}


# Zones


def test_records_that_are_odd_are_shown_as_they_are(fake: FakeCloudflare, zone: FakeZone) -> None:
    """They are in the account, however they came there, and one of them may not hide all others."""
    shape = next(iter(zone.records.values()))
    odd: list[dict[str, Any]] = [
        {"name": "0/25.acme.test", "type": "NS", "content": "ns.example.net"},  # RFC 2317
        {"name": "1.acme.test", "type": "CNAME", "content": "1.0/25.acme.test"},
        {"name": "a\\.b.acme.test", "type": "A", "content": "192.0.2.1"},
        {"name": "empty.acme.test", "type": "A", "content": ""},
        {"name": "m.acme.test", "type": "MX", "content": "mail.example.net", "priority": None},
        {"name": "d.acme.test", "type": "DS", "content": "odd", "data": {"key_tag": "x"}},
        {"name": "f.acme.test", "type": "FUTURE", "content": "who knows", "ttl": None},
    ]
    for number, record in enumerate(odd):
        zone.records[str(number)] = {**shape, "id": f"{number:032}", "comment": None, **record}
    found = {each.rrset.name: each for each in fetch(fake).rrsets}
    fake.complaints.clear()  # these are what its schema has not
    values = {name.partition(".acme.")[0]: each.rrset.values for name, each in found.items()}
    assert values == {
        "acme.test.": ('"by hand"',),
        "0/25": ("ns.example.net.",),
        "1": ("1.0/25.acme.test.",),
        "a\\.b": ("192.0.2.1",),
        "empty": ("",),
        "m": ("mail.example.net",),
        "d": ("odd",),
        "f": ("who knows",),
    }
    assert {each.owner for each in found.values()} == {""}


def ds(fake: FakeCloudflare) -> tuple[str, ...]:
    return asyncio.run(provider(fake).ds(ZONE))


def test_the_ds_of_a_signed_zone(fake: FakeCloudflare, zone: FakeZone) -> None:
    assert ds(fake) == ()
    zone.dnssec = {"algorithm": "13", "digest": "AB" * 32, "digest_type": "2", "key_tag": 2371, "status": "pending"}
    assert ds(fake) == (f"2371 13 2 {'ab' * 32}",)
    zone.dnssec["status"] = "pending-disabled"
    assert ds(fake) == ()
    zone.dnssec["status"] = "active"
    fake.scopes = fake.scopes - {"dns:read"}
    assert ds(fake) == ()  # it may not be seen; what name servers say is


def test_every_page_of_zones_is_read(fake: FakeCloudflare) -> None:
    for number in range(120):
        fake.zone(f"z{number:03}.test")
    found = asyncio.run(provider(fake).zones())
    assert found == [f"z{number:03}.test." for number in range(120)]
    assert asyncio.run(provider(fake).fetch("z119.test.")).name == "z119.test."


def test_a_pending_zone_can_be_filled(fake: FakeCloudflare) -> None:
    asyncio.run(provider(fake).add(ZONE))
    assert fake.zones[0].status == "pending"
    apply(fake, NEW)
    assert fetch(fake).rrsets == (NEW.after,)
    assert fetch(fake).nameservers == ("ada.ns.cloudflare.test.", "bob.ns.cloudflare.test.")


def test_which_account_must_be_clear(fake: FakeCloudflare) -> None:
    fake.accounts.append({**fake.accounts[0], "id": "f" * 32, "name": "Other"})
    with pytest.raises(ProviderFailed, match=r"Acme .*Other") as error:
        asyncio.run(provider(fake).add(ZONE))
    assert error.value.code == "several-accounts"
    asyncio.run(provider(fake, account="f" * 32).add(ZONE))
    assert fake.zones[0].account["name"] == "Other"
    assert asyncio.run(provider(fake, account=fake.accounts[0]["id"]).zones()) == []
    with pytest.raises(NoZone):
        fetch(fake, account=fake.accounts[0]["id"])


def test_of_two_zones_of_one_name_the_active_one_counts(fake: FakeCloudflare) -> None:
    waiting, live = fake.zone("acme.test", status="pending"), fake.zone("acme.test")
    live.post({"name": "acme.test", "type": "A", "content": "192.0.2.1", "ttl": 1})
    assert len(fetch(fake).rrsets) == 1
    live.status = waiting.status
    with pytest.raises(ProviderFailed, match="several accounts"):
        fetch(fake)


def test_without_an_account_that_it_sees_nothing_is_made(fake: FakeCloudflare) -> None:
    fake.scopes = ALL - {"account:read"}
    with pytest.raises(ProviderFailed, match="none"):
        asyncio.run(provider(fake).add(ZONE))


# The token


def test_a_token_that_may_do_all_is_said_to(fake: FakeCloudflare, zone: FakeZone) -> None:
    assert asyncio.run(provider(fake).check()) == ((ZONE,), (), "")
    assert len(zone.records) == 1


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("zone:read", ("Zone → Zone → Read, for at least one zone",)),
        ("dns:read", ("Zone → DNS → Read",)),
        ("dns:edit", ("Zone → DNS → Edit",)),
    ],
)
def test_a_missing_permission_is_named(
    fake: FakeCloudflare, zone: FakeZone, lost: str, missing: tuple[str, ...]
) -> None:
    fake.scopes = ALL - {lost}
    assert asyncio.run(provider(fake).check()).missing == missing


def test_a_wrong_token_an_expired_one_and_one_of_an_account(fake: FakeCloudflare, zone: FakeZone) -> None:
    with pytest.raises(ProviderFailed, match="Invalid API Token"):
        asyncio.run(Cloudflare("wrong", base_url=fake.url, pauses=()).check())
    fake.owned_by_account = True
    assert asyncio.run(provider(fake).check()).zones == (ZONE,)
    fake.owned_by_account = False
    fake.token_status = "expired"
    with pytest.raises(ProviderFailed, match="expired"):
        asyncio.run(provider(fake).check())


def test_only_the_token_is_used_whatever_the_environment_says(
    fake: FakeCloudflare, zone: FakeZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_TOKEN", "API_KEY", "EMAIL", "API_USER_SERVICE_KEY"):
        monkeypatch.setenv(f"CLOUDFLARE_{name}", "from-the-environment")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("CLOUDFLARE_CUSTOM_HEADERS", "Authorization: Bearer from-the-environment")
    fetch(fake)
    assert fake.headers
    assert not [h for h in fake.headers if "from-the-environment" in str(h)]


# Failures


def test_the_wrong_scope_is_refused_in_cloudflares_words(fake: FakeCloudflare, zone: FakeZone) -> None:
    fake.scopes = ALL - {"dns:edit"}
    with pytest.raises(ProviderFailed, match=r"Authentication error \(code 10000\)") as error:
        apply(fake, NEW)
    assert "Zone → DNS → Edit" in error.value.hint
    assert batches(fake) == 1


def test_one_invalid_of_a_batch_is_named_and_nothing_done(fake: FakeCloudflare, zone: FakeZone) -> None:
    bad = Change(None, a("low", "192.0.2.1", ttl=45))
    with pytest.raises(ProviderFailed, match=r"Invalid TTL.* at /posts/1 \(code 9021\)"):
        apply(fake, NEW, bad)
    assert len(zone.records) == 1


def test_too_many_calls_are_waited_out(fake: FakeCloudflare, zone: FakeZone) -> None:
    busy = {"success": False, "errors": [{"code": 10429, "message": "Rate limited"}], "messages": [], "result": None}
    fake.faults += [
        Fault("GET /zones$", 429, busy, {"Retry-After": "0"}),
        Fault("POST .*/batch", 429, busy, {"Retry-After": "0"}, times=2),
    ]
    apply(fake, NEW)
    assert batches(fake) == 3
    assert len(zone.records) == 2


def test_a_longer_wait_than_we_have_patience_for_is_said(fake: FakeCloudflare, zone: FakeZone) -> None:
    fake.faults.append(Fault("GET /zones$", 429, {"errors": []}, {"Retry-After": "290"}, times=9))
    with pytest.raises(ProviderFailed) as error:
        fetch(fake)
    assert (error.value.code, error.value.hint) == ("provider-busy", "try again in 290 seconds")
    assert len(fake.calls) == 1


def test_reads_are_tried_again_after_a_server_error(fake: FakeCloudflare, zone: FakeZone) -> None:
    fake.faults.append(Fault("GET /zones", 502, "<html>Bad gateway</html>", times=2))
    assert len(fetch(fake).rrsets) == 1
    fake.faults.append(Fault("GET /zones", 503, times=99))
    with pytest.raises(ProviderFailed, match="HTTP status 503"):
        fetch(fake)


@pytest.mark.parametrize("body", ["<html>Log in to the hotel's WLAN</html>", {"result": []}, {"success": False}])
def test_what_is_not_cloudflares_answer_is_no_empty_zone(fake: FakeCloudflare, zone: FakeZone, body: Any) -> None:
    fake.faults.append(Fault("GET .*/dns_records", 200, body, times=99))
    with pytest.raises(ProviderFailed, match=r"not JSON|whether it succeeded"):
        fetch(fake)


def test_a_batch_is_never_sent_twice_when_it_may_have_been_done(fake: FakeCloudflare, zone: FakeZone) -> None:
    fake.faults.append(Fault("POST .*/batch", 500, "", done=True))
    apply(fake, NEW, Change(None, a("cdn", "192.0.2.1", proxied=True)))  # it was done, and we looked
    assert batches(fake) == 1
    assert len(zone.records) == 3

    fake.faults.append(Fault("POST .*/batch", 500, "", done=False))
    with pytest.raises(ProviderFailed, match=r"HTTP status 500; the zone acme\.test\. is as before so far"):
        apply(fake, Change(None, a("other", "192.0.2.1")))
    assert batches(fake) == 2
    assert len(zone.records) == 3


def test_a_slow_answer_ends_in_time_and_may_still_come(fake: FakeCloudflare, zone: FakeZone) -> None:
    released = threading.Event()
    fake.faults.append(Fault("POST .*/batch", wait=released))
    with pytest.raises(ProviderFailed, match=r"took too long.*as before so far"):
        apply(fake, NEW, timeout=0.3)
    assert batches(fake) == 1


def test_a_network_that_is_not_there(fake: FakeCloudflare) -> None:
    with pytest.raises(ProviderFailed, match="did not answer"):
        fetch(fake, base_url="http://127.0.0.1:1/client/v4")


def test_somebody_else_between_plan_and_apply(fake: FakeCloudflare, zone: FakeZone) -> None:
    planned_on = fetch(fake).revision
    calls = len(fake.calls)

    def somebody(call: str) -> None:
        if call.endswith("/dns_records") and len(zone.records) == 1:
            zone.post({"name": "theirs.acme.test", "type": "A", "content": "192.0.2.9", "ttl": 1})

    fake.meanwhile = somebody
    with pytest.raises(ZoneChanged):
        apply(fake, NEW, on=planned_on)
    assert len(fake.calls) > calls
    assert batches(fake) == 0
    assert len(zone.records) == 2


def test_the_limit_of_the_plan_is_said_before_anything_is_sent(fake: FakeCloudflare, zone: FakeZone) -> None:
    many = [Change(None, a(f"h{number}", "192.0.2.1")) for number in range(201)]
    with pytest.raises(ProviderFailed, match=r"201 .* 200 .* free plan") as error:
        apply(fake, *many)
    assert error.value.code == "too-many-changes"
    assert batches(fake) == 0
    zone.plan = "pro"
    apply(fake, *many)
    assert len(zone.records) == 202


def test_the_token_is_in_no_error(fake: FakeCloudflare, zone: FakeZone) -> None:
    echo = {"success": False, "errors": [{"code": 6003, "message": f"Invalid header: Bearer {fake.token}"}]}
    fake.faults.append(Fault("GET /zones$", 400, echo))
    with pytest.raises(ProviderFailed, match="Invalid header: Bearer …") as error:
        fetch(fake)
    chain = [error.value, error.value.__cause__]
    assert not any(fake.token in f"{e!r} {e}" for e in chain)
    assert fake.token not in repr(provider(fake))


# Name servers


def test_the_assigned_name_servers_are_resolved(
    fake: FakeCloudflare, zone: FakeZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dns.asyncresolver
    import dns.resolver

    asked = []

    class Answers:
        def addresses(self) -> list[str]:
            return ["192.0.2.53", "2001:db8::53"]

    async def resolve_name(self: object, name: str, **more: Any) -> Answers:
        asked.append(name)
        if len(asked) > 2:
            raise dns.resolver.NXDOMAIN
        return Answers()

    monkeypatch.setattr(dns.asyncresolver.Resolver, "resolve_name", resolve_name)
    found = asyncio.run(provider(fake, servers=()).addresses(ZONE))
    assert asked == ["ada.ns.cloudflare.test.", "bob.ns.cloudflare.test."]
    assert found[:2] == [(asked[0], "192.0.2.53", 53), (asked[0], "2001:db8::53", 53)]
    with pytest.raises(ProviderFailed, match=r"ada\.ns\.cloudflare\.test\. has no address"):
        asyncio.run(provider(fake, servers=()).addresses(ZONE))
