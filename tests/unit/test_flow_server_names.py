"""What a server's name brings with it, and what goes when the server does: names, certificate, page, keys of proofs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from serverflow_cli.config.load import parse
from serverflow_cli.errors import ConfigError, ProviderError
from serverflow_cli.flows import sealing, server_names, servers, vault, whole
from serverflow_cli.flows.safe import USUAL
from serverflow_cli.flows.unmanaged import find
from serverflow_cli.model.result import CommandResult
from serverflow_cli.plan.desired import resources

from .test_flow_routes import FLEET, Fleet, add, apply, how
from .test_flow_routes import fleet as fleet  # the fixture

WEB1 = '[servers.web1]\nhost = "203.0.113.7"\n'
APP = WEB1 + 'roles = ["app"]\ntags = ["tls"]\n'
MAIL1 = '[servers.mail1]\nhost = "203.0.113.10"\ntags = ["tls"]\n'
ACME = '[acme]\non = "+tls"\n'
PROOFS = "web1.acme-challenge.acme.app."
#: So many that one server's names are a small part of the zone.
MANY = "records = [{}]\n".format(
    ", ".join(f'{{ name = "h{n}", type = "A", ttl = "1h", values = ["192.0.2.{n}"] }}' for n in range(1, 31))
)
HEAD = 'schema = 1\nbase_domain = "acme.app"\n'


def text_of(*parts: str) -> str:
    return HEAD + FLEET.replace(WEB1, APP) + MAIL1 + ACME + "".join(parts)


def routes_of(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (each.server, each.action, dict(each.params)) for each in resources(parse(text)) if each.key == "route.server"
    ]


def large(text: str) -> str:
    return text.replace('provider = "own"\n', f'provider = "own"\n{MANY}')


# --- which servers have the page -------------------------------------------------------------------------------------


def test_a_server_with_a_certificate_of_its_own_has_a_page() -> None:
    page = {"name": "server", "host": ["web1.acme.app"], "to": "page:web1", "certificate": "server"}
    assert routes_of(text_of()) == [("web1", "route.set", page)]
    seen = {each.server: each.params.get("verify") for each in resources(parse(text_of())) if each.key == "cert.server"}
    assert seen == {"web1": ["web1.acme.app:443"], "mail1": None}


@pytest.mark.parametrize(
    "text",
    [
        HEAD + FLEET.replace(WEB1, APP),
        HEAD + FLEET + '[acme]\non = "all"\n',
        text_of().replace('"+tls"', '"mail1"'),
        text_of().replace('base_domain = "acme.app"\n', ""),
    ],
    ids=["no certificates", "no role app", "no certificate for it", "no name"],
)
def test_others_have_none(text: str) -> None:
    assert routes_of(text) == []


@pytest.mark.parametrize(
    ("on", "hosts", "is_there"),
    [
        ("web1", 'host = "web1.acme.app"', False),
        ("web1", 'host = "x.acme.app"\naliases = ["web1.acme.app"]', False),
        ("web1", 'host = "*.acme.app"', False),
        ("web1", 'host = "*.web1.acme.app"', True),
        ("web1", 'host = "shop.acme.app"', True),
        ("db1", 'host = "web1.acme.app"', True),
    ],
)
def test_a_route_with_its_name_takes_its_place(on: str, hosts: str, is_there: bool) -> None:
    shop = f'[routes.shop]\non = "{on}"\n{hosts}\nto = {{ port = 3000 }}\ncertificate = "none"\n'
    assert bool(routes_of(text_of(shop))) == is_there


def test_no_route_of_the_file_is_called_so() -> None:
    shop = '[routes.server]\non = "web1"\nhost = "x.web1.acme.app"\nto = { port = 3000 }\n'
    for text in (text_of(shop), HEAD + FLEET + shop):
        with pytest.raises(ConfigError, match=r"routes\.server"):
            resources(parse(text))


# --- with the server -------------------------------------------------------------------------------------------------


def write(fleet: Fleet, text: str) -> None:
    fleet.folder.fleet_toml.write_text(text)
    fleet.refresh()


def written(fleet: Fleet, servers: Sequence[str], text: str) -> CommandResult:
    """What follows when the file is this all at once, as after `sf server add`, `rename` and `remove`."""
    before = fleet.fleet
    write(fleet, text)
    return asyncio.run(server_names.bring(fleet, CommandResult(), servers, before, lambda _: None))


@pytest.fixture
def empty(fleet: Fleet) -> Fleet:
    """Name servers, and no web server yet."""
    write(fleet, text_of().replace(APP, ""))
    apply(fleet)
    fleet.made()
    return fleet


@pytest.fixture
def named(empty: Fleet) -> Fleet:
    """With web1, and all that belongs to it."""
    assert written(empty, ["web1"], text_of()).error is None
    empty.made()
    return empty


MADE = [
    f"db1 dns.zone {PROOFS}", f"db1 dns.update-key {PROOFS}", "zone acme.app. 4",
    "web1 cert.set server", "web1 cert.issue server", "web1 route.set server",
]  # fmt: skip
DROPPED = [f"db1 dns.zone-remove {PROOFS}", f"db1 dns.key-remove {PROOFS}"]


def test_a_new_server_answers_at_its_name(empty: Fleet) -> None:
    done = written(empty, ["web1"], text_of())
    assert done.error is None and done.notes == ("https://web1.acme.app answers",)
    assert empty.made() == MADE
    assert apply(empty).error is None and empty.made() == []


@pytest.mark.parametrize(
    ("broken", "made", "hint"),
    [
        ("dns.update-key", MADE[:1], "sf apply"),
        ("cert.issue", MADE[:4], "sf apply"),
        ("route.set", MADE[:5], "sf apply; without the page: [acme] welcome = false"),
    ],
)
def test_what_fails_half_way_is_told_and_made_up_for(empty: Fleet, broken: str, made: list[str], hint: str) -> None:
    empty.there.broken = {broken}
    done = written(empty, ["web1"], text_of())
    assert empty.made() == made and done.exit_code != 0 and not any("answers" in note for note in done.notes)
    assert [row.error.hint for row in done.failures if row.error][-1] == hint
    assert "what is missing of names and certificates comes with sf apply" in done.notes[-1]
    empty.there.broken = set()
    assert apply(empty).error is None
    assert empty.made()[-1] == MADE[-1]


def test_the_page_goes_and_comes_back_with_a_route_at_its_name(named: Fleet) -> None:
    done = add(named, how(), host="web1.acme.app")
    assert done.error is None
    assert [each for each in named.made() if "route" in each] == ["web1 route.set shop"]
    assert left(named) == []
    named.folder.fleet_toml.write_text(text_of())
    named.refresh()
    assert apply(named).error is None
    # The fake does not know that the route has taken it away.
    assert left(named) == ["route.shop"]


def left(fleet: Fleet) -> list[str]:
    """What `sf plan` calls unmanaged."""

    async def look() -> list[str]:
        async with fleet.caller() as caller:
            found, _ = await find(fleet, caller, "all", lambda _: None)
        return [each.key for each in found]

    return asyncio.run(look())


def test_it_can_be_turned_off(named: Fleet) -> None:
    write(named, text_of("welcome = false\n"))
    assert apply(named).error is None
    assert [each for each in named.made() if "route" in each] == ["web1 route.remove server"]
    assert left(named) == []
    assert apply(named).error is None and named.made() == []


# --- and without it --------------------------------------------------------------------------------------------------


def test_what_a_server_proved_its_names_with_goes_with_it(named: Fleet) -> None:
    key = sealing.open_secret(named, "proof_server_web1")
    done = written(named, ["web1"], text_of().replace(APP, ""))
    assert done.error is None and done.notes == ()
    assert named.made() == ["zone acme.app. 4", *DROPPED]
    assert "proof_server_web1" not in vault.read(named).boxes
    assert left(named) == []
    written(named, ["web1"], text_of())
    assert sealing.open_secret(named, "proof_server_web1") != key
    assert named.there.secrets["dns.update-key"] == {"secret": sealing.open_secret(named, "proof_server_web1")}


@pytest.fixture
def wide(named: Fleet) -> Fleet:
    """In a zone of which one server is a small part: that much may go by `sf apply`."""
    write(named, large(text_of()))
    assert apply(named).error is None
    named.made()
    return named


def test_a_primary_that_is_away_is_cleaned_later(wide: Fleet) -> None:
    wide.there.away = {"db1"}
    done = written(wide, ["web1"], large(text_of().replace(APP, "")))
    assert "db1 still has the zone of proofs and its key: sf apply removes them" in done.notes
    assert "proof_server_web1" not in vault.read(wide).boxes
    assert done.exit_code != 0 and all(row.error.hint for row in done.failures if row.error)
    wide.there.away = set()
    wide.made()
    planned = asyncio.run(whole.plan(wide, selector="all", only=None, report=lambda _: None, safety=USUAL))
    assert [f"{c.verb} {c.kind} {c.name}" for row in planned.servers if row.reply for c in row.reply.changes] == [
        f"delete zone {PROOFS}", f"delete tsig-key {PROOFS}",
    ]  # fmt: skip
    assert apply(wide).error is None
    assert wide.made() == DROPPED
    assert apply(wide).error is None and wide.made() == []


def test_a_removal_that_broke_off_is_carried_on(wide: Fleet) -> None:
    wide.there.broken = {"dns.key-remove"}
    written(wide, ["web1"], large(text_of().replace(APP, "")))
    wide.there.broken = set()
    wide.made()
    assert apply(wide).error is None
    assert wide.made() == DROPPED


def test_a_renamed_server_gets_new_ones_before_the_old_ones_go(named: Fleet) -> None:
    renamed = text_of().replace("servers.web1", "servers.web2")
    done = written(named, ["web1", "web2"], renamed)
    assert done.error is None
    assert named.made() == [each.replace("web1", "web2").replace("acme.app. 4", "acme.app. 8") for each in MADE] + (
        DROPPED
    )
    assert {"proof_server_web1", "proof_server_web2"} & vault.read(named).boxes.keys() == {"proof_server_web2"}
    assert {name for name in named.zones.names("A") if "web1" in name} == set()


def test_a_rename_that_fails_keeps_what_the_server_still_uses(wide: Fleet) -> None:
    wide.zones.broken = ProviderError("it is down")
    renamed = large(text_of().replace("servers.web1", "servers.web2"))
    assert written(wide, ["web1", "web2"], renamed).exit_code != 0
    assert not set(DROPPED) & set(wide.made())
    wide.zones.broken = None
    assert apply(wide).error is None
    assert wide.made()[-2:] == DROPPED


def shared(fleet: Fleet) -> str:
    """The name of the one key that several servers have."""
    (found,) = (name for name in vault.read(fleet).boxes if name.startswith("proof_shared_"))
    return found


def test_what_it_knew_with_others_is_replaced_there(named: Fleet) -> None:
    other = APP.replace("web1", "web2").replace("203.0.113.7", "203.0.113.8")
    third = APP.replace("web1", "web3").replace("203.0.113.7", "203.0.113.9")
    shop = '[certificates.shop]\non = "web*"\nnames = ["shop.acme.app"]\n'
    write(named, text_of(other, third, shop))
    assert apply(named).error is None
    key = sealing.open_secret(named, shared(named))
    named.made()
    done = written(named, ["web1"], text_of(other, third, shop).replace(APP, ""))
    assert done.error is None
    assert sealing.open_secret(named, shared(named)) != key
    assert {"db1 dns.update-key shop.acme-shared.acme.app.", "web2 cert.set shop", "web3 cert.set shop"} <= set(
        named.made()
    )


def test_a_server_that_the_stanza_lost_first_knew_it_too(named: Fleet) -> None:
    """`sf server remove` wants it out of the stanza before; nor is the old key used again with a server of its name."""
    other = APP.replace("web1", "web2").replace("203.0.113.7", "203.0.113.8")
    third = APP.replace("web1", "web3").replace("203.0.113.7", "203.0.113.9")
    three = '[certificates.shop]\non = "web1,web2,web3"\nnames = ["shop.acme.app"]\n'
    two = three.replace(",web3", "")
    write(named, text_of(other, third, three))
    assert apply(named).error is None
    known = {sealing.open_secret(named, shared(named))}
    write(named, text_of(other, third, two))
    assert apply(named).error is None
    assert written(named, ["web3"], text_of(other, two)).error is None
    known.add(sealing.open_secret(named, shared(named)))
    assert written(named, ["web3"], text_of(other, third, two)).error is None
    write(named, text_of(other, third, three))
    assert apply(named).error is None
    known |= {sealing.open_secret(named, name) for name in vault.read(named).boxes if name.startswith("proof_shared_")}
    assert len(known) == 3


def test_zones_of_servers_that_a_colleague_has_added_stay(named: Fleet) -> None:
    assert apply(named).error is None
    there = text_of(APP.replace("web1", "web9").replace("203.0.113.7", "203.0.113.99"))
    write(named, there)
    assert apply(named).error is None
    write(named, text_of())  # as a folder has it that was not pulled
    named.made()
    assert written(named, ["web1"], text_of().replace(APP, "")).error is None
    made = named.made()
    assert "db1 dns.zone-remove web1.acme-challenge.acme.app." in made
    assert not any("web9" in line for line in made)


def test_a_key_that_was_left_behind_is_not_used_again(empty: Fleet) -> None:
    sealing.store(empty, {"proof_server_web1": "known to a thief"})
    assert written(empty, ["web1"], text_of()).error is None
    assert sealing.open_secret(empty, "proof_server_web1") != "known to a thief"


def test_a_primary_is_not_removed_while_it_has_zones(named: Fleet) -> None:
    with pytest.raises(ConfigError) as refused:
        asyncio.run(
            servers.remove(named, "db1", plan=False, approve=lambda _: True, report=lambda _: None, forget=True)
        )
    assert "db1" in refused.value.message and "take out what is meant for db1" in str(refused.value.hint)
