"""What fleet.toml wishes, in the words of the trust file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from serverflow_cli.errors import ConfigError, UsageError
from serverflow_cli.flows import grants
from serverflow_cli.flows.keys import Rights
from serverflow_cli.model.fleet import Fleet
from serverflow_cli.trust.trustfile import CommandKey, Grant, Role, RootKey, Trust

WEB1, WEB2, DB1 = "1a" * 32, "1b" * 32, "1c" * 32
IDS = {"web1": WEB1, "db1": DB1}
ROOT = Role(1, (RootKey("ana", bytes(32)),))
EVERY = tuple(grants.every_action())
RESTART = Grant(("service.restart",), (WEB1,), {"unit": "cron"})


def fleet(*stanzas: dict[str, Any]) -> Fleet:
    servers = {
        "web1": {"host": "web1", "roles": ["app"]},
        "web2": {"host": "web2", "roles": ["app"]},  # not enrolled
        "db1": {"host": "db1", "roles": ["db"]},
    }
    return Fleet.model_validate({"schema": 1, "servers": servers, "grants": list(stanzas)})


def key(name: str, *held: Grant, number: int = 1, everything: bool = False) -> CommandKey:
    return CommandKey(name, bytes([number]) * 32, 10, held, everything=everything)


def trust(*keys: CommandKey) -> Trust:
    return Trust("f1" * 16, 1, 10, ROOT, ROOT, keys)


ANA = key("ana", Grant(EVERY, (WEB1, DB1)), everything=True)
CI = key("ci", RESTART, number=2)
WISH = {"to": "ci", "allow": ["service.restart"], "on": "@app", "where": {"unit": "cron"}}


def test_globs_and_selectors_become_names_and_ids() -> None:
    wish = {"to": "ci", "allow": ["service.*", "app.show"], "on": "all", "where": {"app": "shop"}}
    ana, ci = grants.wished(trust(ANA, CI), fleet(wish), IDS)
    assert ana == ANA
    (grant,) = ci.grants
    assert set(grant.actions) == {"app.show"} | {name for name in EVERY if name.startswith("service.")}
    assert grant.servers == tuple(sorted((WEB1, DB1)))  # web2 has no id yet
    assert grant.where == {"app": "shop"}


def test_a_key_without_a_stanza_keeps_what_is_signed() -> None:
    assert grants.wished(trust(ANA, CI), fleet(), IDS) == (ANA, CI)


def test_an_operator_follows_the_fleet_and_the_registry() -> None:
    old = key("ana", Grant(("system.info",), ("9f" * 32,)), everything=True)
    (ana,) = grants.wished(trust(old), fleet(), IDS)
    assert ana.grants == (Grant(EVERY, tuple(sorted(IDS.values()))),)


def test_a_key_with_all_actions_that_was_not_marked_does_not_grow() -> None:
    wide = key("deploy", Grant(EVERY, (WEB1,)))
    assert grants.wished(trust(wide), fleet(), IDS) == (wide,)
    web2 = fleet().servers["web2"]
    assert grants.with_server(trust(wide), fleet(), "web2", web2, WEB2) == ((wide,), [])


def test_a_stanza_narrows_an_operator() -> None:
    (ana,) = grants.wished(trust(ANA), fleet({**WISH, "to": "ana"}), IDS)
    assert (ana.grants, ana.everything) == ((RESTART,), False)


def test_an_action_that_does_not_exist_is_told() -> None:
    with pytest.raises(UsageError, match=r"no action gone\.walk"):
        grants.wished(trust(CI), fleet({**WISH, "allow": ["gone.walk"]}), IDS)


def test_a_key_expires_as_its_stanzas_agree() -> None:
    one, other = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    (ci,) = grants.wished(trust(CI), fleet({**WISH, "expires": one}), IDS)
    assert ci.expires == int(one.timestamp()) * 1000
    for second in ({"expires": other}, {}):
        with pytest.raises(ConfigError, match="expire at different times"):
            grants.wished(trust(CI), fleet({**WISH, "expires": one}, {**WISH, **second}), IDS)


def test_a_new_server_is_for_operators_and_for_what_selectors_mean() -> None:
    """Only with what a key holds already: a stanza that nobody signed lets nobody in."""
    web2 = fleet().servers["web2"]
    everywhere, invited = grants.with_server(trust(ANA, CI), fleet(WISH), "web2", web2, WEB2)
    assert WEB2 in everywhere[0].grants[0].servers
    assert everywhere[1] == CI
    assert [one.grants for one in invited] == [(Grant(RESTART.actions, (WEB1, WEB2), RESTART.where),)]
    stanzas: list[dict[str, Any]] = [{"allow": ["*"]}, {"where": {}}, {"on": "db1"}, {"to": "ana"}]
    for planted in stanzas:
        assert grants.with_server(trust(ANA, CI), fleet({**WISH, **planted}), "web2", web2, WEB2)[1] == []


def test_wishes_for_nobody_are_told() -> None:
    assert [text.split(",")[0] for text in grants.problems(trust(ANA), fleet(WISH, WISH))] == [
        "fleet.toml grants something to ci"
    ]


def test_a_key_that_may_try_the_checks_already_lacks_nothing() -> None:
    checks = {"all": {"on": "all", "expect": ["unit ssh active"]}}
    wished = Fleet.model_validate({**fleet().model_dump(by_alias=True, exclude_none=True), "checks": checks})
    asked = Rights(("user.create",), "web1,db1")
    (note,) = grants.unchecked("ci", asked, wished, [Grant(("safe.check",), (WEB1,))], IDS)
    assert note.startswith("[checks] are for db1, and ci may not try them")
    conditional = Grant(("safe.check",), (WEB1, DB1), {"unit": "cron"})
    (note,) = grants.unchecked("ci", asked, wished, [conditional], IDS)
    assert note.startswith("[checks] are for web1, db1")
    assert grants.unchecked("ci", asked, wished, [Grant(("safe.check",), (WEB1, DB1))], IDS) == []


def test_command_lines_have_to_be_granted_by_name() -> None:
    assert "cron.command" not in grants.expand(["cron.*"]) and "cron.add" in grants.expand(["cron.*"])
    assert "cron.command" not in grants.expand(["*"])
    assert grants.expand(["cron.command"]) == ("cron.command",)
