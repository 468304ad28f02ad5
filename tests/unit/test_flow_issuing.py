"""Which certificates are issued: those that are not as the file says, and that the question has shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from serverflow_cli.errors import ActionFailed, SfError, TrustError, Unreachable
from serverflow_cli.flows import certificates, routes
from serverflow_cli.model.result import CommandResult, Reply

from .test_flow_routes import Asked, Fleet, add, apply, how, setup
from .test_flow_routes import fleet as fleet  # the fixture
from .test_flow_whole import ACME, SHOP, run, write

UNTOLD = "web1: it did not tell which certificates it has: none is issued there now"
NOW = int(time.time() * 1000)


def telling(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, told: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """What servers say of each certificate is `told` of it."""
    call = fleet.there.call

    async def changed(link: Any, request: Any, *more: Any) -> Reply:
        reply = await call(link, request, *more)
        if request.action != "cert.list":
            return reply
        return replace(reply, data={"certificates": [{**row, **told(row)} for row in reply.data["certificates"]]})

    monkeypatch.setattr(fleet.there, "call", changed)


def refusing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: SfError, times: int = 1 << 30) -> None:
    """cert.list ends with that, so many times."""
    call, left = fleet.there.call, [times]

    async def changed(link: Any, request: Any, *more: Any) -> Reply:
        if request.action == "cert.list" and left[0] > 0:
            left[0] -= 1
            raise error
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", changed)


def lines(shown: CommandResult) -> set[tuple[str, str]]:
    return {
        (row.name, change.name)
        for row in shown.servers
        if row.reply
        for change in row.reply.changes
        if change.kind == "certificate"
    }


@pytest.mark.parametrize(
    ("told", "is_issued"),
    [
        ({"next": 1, "why": "third"}, False),
        ({"next": 1, "why": "ari"}, False),
        ({"next": 1, "why": "last-sixth", "failures": 3, "not_after": NOW + 86_400_000}, False),
        ({"next": 0, "why": "missing"}, True),
        ({"next": 0, "why": "changed"}, True),
        ({"next": 0, "why": "revoked"}, True),
        ({"next": 1, "why": "last-sixth", "not_after": NOW - 1}, True),
        ({"path": ""}, True),
        ({"served": False}, True),
        ({"served": None}, False),
    ],
)
def test_what_is_shown_is_issued_and_what_is_due_by_time_is_neither(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, told: Mapping[str, Any], is_issued: bool
) -> None:
    write(fleet, ACME, SHOP % "web1")
    apply(fleet)
    fleet.made()
    telling(fleet, monkeypatch, lambda row: told if row["name"] == "shop" else {})
    planned = run(fleet, "plan --check")
    assert (planned.code, "> certificate shop" in planned.out) == ((11, True) if is_issued else (0, False))
    asked = Asked(False)
    if is_issued:
        with pytest.raises(SfError, match="nothing was done"):
            apply(fleet, asked)
    else:
        apply(fleet, asked)
    assert [lines(shown) for shown in asked.shown] == ([{("web1", "shop")}] if is_issued else [])
    assert fleet.made() == []
    asked = Asked()
    apply(fleet, asked)
    assert "web1 cert.issue server" not in (made := fleet.made()) and len(asked.shown) == is_issued
    assert set(made) == ({"web1 cert.issue shop"} if is_issued else set())


def test_a_certificate_that_nobody_serves_is_no_matter_without_a_route(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    telling(fleet, monkeypatch, lambda _: {"served": False})
    assert run(fleet, "plan --check").code == 0 and apply(fleet).error is None and fleet.made() == []


@pytest.mark.parametrize("error", [TrustError("not granted", code="not-granted"), ActionFailed("it is damaged")])
def test_on_a_server_that_does_not_tell_none_is_issued(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, error: SfError
) -> None:
    apply(fleet)
    setup(fleet)
    fleet.made()
    fleet.there.issued.clear()
    refusing(fleet, monkeypatch, error)
    planned = run(fleet, "plan")
    assert UNTOLD in planned.err and "> certificate" not in planned.out
    asked = Asked()
    for done in apply(fleet, asked), asyncio.run(certificates.setup(fleet, {"on": "web1"}, dict, how(asked))):
        assert (done.error, done.notes.count(UNTOLD)) == (None, 1)
    assert (fleet.made(), asked.shown) == ([], [])


def test_a_server_that_is_gone_by_then_is_a_failure(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    write(fleet, ACME, SHOP % "web1")
    call = fleet.there.call
    made: list[str] = []

    async def dies(link: Any, request: Any, *more: Any) -> Reply:
        if request.action == "cert.list" and made:
            raise Unreachable("web1 does not answer", server="web1")
        if (request.action, request.mode) == ("cert.set", "run"):
            made.append(request.action)
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", dies)
    done = apply(fleet)
    assert [row.name for row in done.failures] == ["web1"] and not any("issue" in each for each in fleet.made())


@pytest.mark.parametrize("answer", [True, False])
def test_one_that_was_not_shown_is_asked_about(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    apply(fleet)
    fleet.made()
    write(fleet, ACME, SHOP % "web1")
    refusing(fleet, monkeypatch, ActionFailed("it is busy"), 1)
    shown: list[CommandResult] = []

    def approve(planned: CommandResult) -> bool:
        shown.append(planned)
        return answer or len(shown) == 1

    done = apply(fleet, approve)
    assert [lines(each) for each in shown] == [set(), {("web1", "server"), ("web1", "shop")}]
    made = fleet.made()
    if answer:
        assert done.error is None
        assert made[-3:] == ["web1 cert.issue server", "web1 cert.issue shop", "web1 route.set shop"]
        return
    assert made[-1] == "web1 cert.set shop" and done.exit_code == 10
    (message,) = (row.error.message for row in done.failures if row.error)
    assert message == "not done: there was no yes to it"


def test_a_certificate_with_other_names_is_shown_before_it_is_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(fleet)
    setup(fleet)
    add(fleet, how())
    fleet.made()
    wishes: dict[str, Mapping[str, Any]] = {"shop": {"names": ["shop.acme.app"]}, "server": {}}
    issued = dict(wishes)
    call = fleet.there.call

    async def noted(link: Any, request: Any, *more: Any) -> Reply:
        if request.mode == "run" and request.action == "cert.set":
            wishes[request.params["name"]] = request.params
        if request.mode == "run" and request.action == "cert.issue":
            issued[request.params["name"]] = wishes[request.params["name"]]
        return await call(link, request, *more)

    monkeypatch.setattr(fleet.there, "call", noted)

    def told(row: Mapping[str, Any]) -> Mapping[str, Any]:
        name = row["name"]
        now = {key: wishes[name][key] for key in ("names", "directory") if key in wishes[name]}
        return {"directory": "https://acme-v02.api.letsencrypt.org/directory", **now,
                "why": "third" if issued[name] == wishes[name] else "changed"}  # fmt: skip

    telling(fleet, monkeypatch, told)
    assert run(fleet, "plan --check").code == 0
    asked = Asked()
    asyncio.run(routes.write(fleet, "shop", {"aliases": ["www.acme.app"]}, None, False, how(asked)))
    assert [lines(shown) for shown in asked.shown] == [{("web1", "shop")}]
    assert fleet.made()[-3:] == ["web1 cert.set shop", "web1 cert.issue shop", "web1 route.set shop"]
    assert run(fleet, "plan --check").code == 0


def test_on_a_server_that_cannot_be_planned_no_certificate_is_shown(fleet: Fleet) -> None:
    write(fleet, ACME, SHOP % "web1")
    apply(fleet)
    fleet.there.issued.clear()
    fleet.there.unplanned = {"route.set"}
    planned = run(fleet, "plan")
    assert "web1: cannot be planned" in planned.out or "web1: route.shop" in planned.err
    assert "> certificate" not in planned.out
    fleet.there.unplanned = set()
    assert "> certificate shop" in run(fleet, "plan").out
