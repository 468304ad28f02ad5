"""What `sf cert setup` and `sf route add` make of their options, before a flow is asked."""

from __future__ import annotations

from typing import Any

import pytest

from serverflow_cli.model.result import CommandResult

from .test_cli_run import FakeFlows, sf


def values_of(line: str) -> dict[str, Any]:
    flows = FakeFlows(CommandResult())
    assert sf(f"{line} --yes", flows).code == 0
    ((_, (_, values, _, _), _),) = flows.calls
    return dict(values)


@pytest.mark.parametrize(
    ("option", "welcome"), [("", {}), (" --welcome", {"welcome": True}), (" --no-welcome", {"welcome": False})]
)
def test_the_page_at_servers_own_names_is_an_option(option: str, welcome: dict[str, bool]) -> None:
    assert values_of(f"cert setup --on web1{option}") == {
        "on": "web1", "token": False, "eab_hmac_key": False, **welcome,
    }  # fmt: skip


def test_a_route_that_leads_nowhere_is_refused_at_once() -> None:
    flows = FakeFlows(CommandResult())
    ended = sf("route add shop --on web1 --host shop.acme.app --yes", flows)
    assert ended.code == 2 and "--to 3000, or --path /api=3001" in ended.err and flows.calls == []
