"""`sf dns record` where a zone and one below it are both in fleet.toml: in which of them a record belongs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from serverflow_actions.kit.rrset import RRset
from serverflow_cli.errors import SfError, UsageError
from serverflow_cli.flows import records, zones
from serverflow_cli.flows.zone_stanza import add_zone
from serverflow_cli.flows.zones import Wish
from serverflow_cli.model.result import CommandResult
from serverflow_cli.model.zone import Served
from serverflow_cli.providers.errors import no_zone

from .test_flow_routes import Asked, Fleet, apply, how
from .test_flow_routes import fleet as fleet  # the fixture

CHILD = '\n[dns.zones."lab.acme.app"]\nprovider = "own"\n'
DS = "12345 13 2 " + "ab" * 32


@pytest.fixture
def nested(fleet: Fleet) -> Fleet:
    """acme.app and lab.acme.app. What is changed at a provider is acme.app."""
    write(fleet, fleet.text + CHILD)
    return fleet


def write(fleet: Fleet, text: str) -> None:
    fleet.folder.fleet_toml.write_text(text)
    fleet.refresh()


def change(
    fleet: Fleet, verb: str, name: str, kind: str, *values: str, asked: Asked | None = None, force: bool = False
) -> CommandResult:
    settings, wish = how(asked or Asked()), Wish(force=force)
    if verb == "remove":
        return asyncio.run(records.remove(fleet, name, kind, values, wish, settings))
    edit = records.add if verb == "add" else records.set_
    return asyncio.run(edit(fleet, name, kind, values, {}, wish, settings))


def has(fleet: Fleet, name: str, kind: str, value: str) -> None:
    """The provider has it, and nobody of ours has made it."""
    state = fleet.zones.state
    fleet.zones.state = state._replace(rrsets=(*state.rrsets, Served(RRset(name, kind, 3600, (value,)))))


def there(fleet: Fleet, zone: str) -> list[tuple[str, str, Sequence[str]]]:
    return [(each.name, each.type, each.values) for each in fleet.fleet.dns.zones[zone].records]


@pytest.mark.parametrize("verb", ["add", "set"])
@pytest.mark.parametrize(("kind", "value"), [("NS", "ns1.acme.app."), ("DS", DS)])
def test_what_leads_to_a_zone_belongs_into_the_one_above(nested: Fleet, verb: str, kind: str, value: str) -> None:
    has(nested, "ns1.acme.app.", "A", "198.51.100.4")
    if kind == "DS":
        has(nested, "lab.acme.app.", "NS", "ns1.acme.app.")
    change(nested, verb, "Lab.acme.app.", kind, value)
    assert there(nested, "acme.app") == [("lab", kind, (value,))] and there(nested, "lab.acme.app") == []
    assert nested.zones.names(kind) == {"lab.acme.app."}
    change(nested, "remove", "lab.acme.app", kind)
    assert there(nested, "acme.app") == [] and nested.zones.names(kind) == set()


def test_the_hint_of_a_new_zone_works_as_it_stands(fleet: Fleet) -> None:
    has(fleet, "ns1.acme.app.", "A", "198.51.100.4")
    done = asyncio.run(add_zone(fleet, "lab.acme.app", None, how()))
    fleet.refresh()
    (hint,) = (note for note in done.notes if "has to lead to it" in note)
    found = re.search(r"sf dns record (set) (\S+) (NS) (.*)", hint)
    assert found
    verb, name, kind, values = found.groups()
    change(fleet, verb, name, kind, *values.split())
    assert there(fleet, "acme.app") == [("lab", "NS", ("ns1.acme.app.",))]


def test_all_else_at_its_apex_and_below_it_is_its_own(nested: Fleet) -> None:
    nested.zones.state = nested.zones.state._replace(name="lab.acme.app.")
    change(nested, "set", "lab.acme.app", "MX", "10 mx.acme.app")
    change(nested, "set", "deep.lab.acme.app", "NS", "ns.acme.org")
    assert there(nested, "acme.app") == []
    assert [each[:2] for each in there(nested, "lab.acme.app")] == [("@", "MX"), ("deep", "NS")]


@pytest.mark.parametrize(("kind", "value"), [("NS", "ns1.acme.org"), ("DS", DS)])
def test_where_the_zone_above_is_elsewhere_that_is_said(fleet: Fleet, kind: str, value: str) -> None:
    before = fleet.text
    for verb in "add", "set", "remove":
        with pytest.raises(UsageError, match=r"the zone above acme\.app is not in fleet\.toml") as refused:
            change(fleet, verb, "acme.app", kind, value)
        assert refused.value.hint and "registrar" in refused.value.hint
    assert fleet.text == before and fleet.made() == []


def test_what_was_written_into_the_zone_itself_can_be_taken_out(nested: Fleet) -> None:
    entry = f'records = [{{ name = "@", type = "DS", values = ["{DS}"] }}]\n'
    write(nested, nested.text.replace(CHILD, CHILD + entry))
    nested.zones.state = nested.zones.state._replace(name="lab.acme.app.")
    change(nested, "remove", "lab.acme.app", "DS")
    assert there(nested, "lab.acme.app") == []


@pytest.mark.parametrize("verb", ["add", "set"])
def test_what_would_break_the_zone_is_refused_before_the_question(fleet: Fleet, verb: str) -> None:
    change(fleet, "add", "www.acme.app", "A", "192.0.2.1")
    before, asked = fleet.text, Asked()
    fleet.made()
    done = change(fleet, verb, "www.acme.app", "CNAME", "ns1.acme.app", asked=asked)
    assert done.error and (done.error.code, done.exit_code) == ("broken-zone", 3)
    assert "an alias stands alone, and there is A" in done.error.message and "--force" in done.error.hint
    assert (fleet.text, fleet.made(), asked.shown) == (before, [], [])
    assert change(fleet, verb, "www.acme.app", "CNAME", "ns1.acme.app", asked=asked, force=True).error is None
    assert any("error: www.acme.app. CNAME" in note for note in asked.shown[0].notes) and fleet.made()


def test_what_was_broken_before_or_is_only_odd_is_no_obstacle(fleet: Fleet) -> None:
    has(fleet, "acme.app.", "MX", "10 gone.acme.app.")
    asked = Asked()
    done = change(fleet, "add", "blog.acme.app", "CNAME", "nowhere.acme.app", asked=asked)
    assert done.error is None and any("warning: blog.acme.app. CNAME" in note for note in asked.shown[0].notes)


@pytest.mark.parametrize(("kind", "value"), [("A", "192.0.2.77"), ("AAAA", "2001:db8::1"), ("CNAME", "www.acme.org.")])
@pytest.mark.parametrize("name", ["ns1", "web1", "shop"])
def test_what_follows_from_the_file_is_not_replaced_by_an_addition(
    fleet: Fleet, name: str, kind: str, value: str
) -> None:
    route = '\n[routes.shop]\non = "web1"\nhost = "shop.acme.app"\nto = { port = 3000 }\n'
    write(fleet, fleet.text + route)
    apply(fleet)
    before, asked = fleet.text, Asked()
    fleet.made()
    origin = {"ns1": "dns.providers.own", "web1": "servers.web1", "shop": "routes.shop"}[name]
    with pytest.raises(UsageError, match=f"follows from {origin}") as refused:
        change(fleet, "add", f"{name}.acme.app", kind, value, asked=asked)
    assert refused.value.hint == f"if that is meant: sf dns record set {name}.acme.app {kind} {value}"
    assert (fleet.text, fleet.made(), asked.shown) == (before, [], [])
    assert change(fleet, "set", f"{name}.acme.app", kind, value, force=True).error is None
    at = [each.rrset for each in fleet.zones.state.rrsets if each.rrset.name == f"{name}.acme.app."]
    assert [each.type for each in at] == [kind]


def test_beside_what_follows_there_may_be_more(fleet: Fleet) -> None:
    apply(fleet)
    assert change(fleet, "add", "web1.acme.app", "TXT", "x").error is None
    change(fleet, "set", "web1.acme.app", "A", "192.0.2.1")
    assert change(fleet, "add", "web1.acme.app", "A", "192.0.2.2").error is None


def test_nobody_is_asked_about_nothing(fleet: Fleet) -> None:
    apply(fleet)
    asked = Asked(False)
    done = asyncio.run(zones.apply(fleet, ["acme.app"], Wish(), asked, lambda _: None))
    assert (done.exit_code, asked.shown) == (0, [])
    (row,) = done.servers
    assert row.outcome == "unchanged"
    # A record that the zone has already, and the file not yet, is something.
    has(fleet, "www.acme.app.", "A", "192.0.2.1")
    with pytest.raises(SfError, match="nothing was done"):
        change(fleet, "add", "www.acme.app", "A", "192.0.2.1", asked=asked)
    assert len(asked.shown) == 1


def test_a_zone_that_is_not_there_yet_comes_with_apply(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(zone: str) -> None:
        raise no_zone("PowerDNS", zone)

    monkeypatch.setattr(fleet.zones, "fetch", gone)
    done = asyncio.run(zones.plan(fleet, ["acme.app"], Wish(), lambda _: None))
    assert done.error and (done.error.code, done.error.hint) == ("no-zone", "sf apply makes it")


def test_a_provider_that_is_asked_is_told_of_until_it_answers(fleet: Fleet) -> None:
    heard: list[Mapping[str, Any]] = []
    asyncio.run(zones.apply(fleet, ["acme.app"], Wish(), Asked(), heard.append))
    told = [(each["t"], each.get("doing", "")) for each in heard]
    assert told[:2] == [("step", "asking its provider"), ("done", "")]
    assert told[2][1].startswith("changing ") and told[-1] == ("done", "")
