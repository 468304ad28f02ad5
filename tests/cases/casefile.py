"""Runs one case file. Standard library only, Python >= 3.9, so that the oldest supported interpreter can run it too.

A case is data: `params`, the `host` as found (see fakehost.Server.add), and what is `expect`ed:

    changes   the forecast, one "verb kind name" for each
    run       the same for the run, where it differs from the forecast
    data      what the result contains at least
    secrets   the names of the values that are shown once
    output    what a read streams
    after     state of files, units, users, packages afterwards; null is "not there"
    error     `code`, and a part of its `message`

With `safe` the case is a safe change: see test_footprints.py, which makes one of each case.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakehost import Crash, FakeHost, FakeProbe, Powers, Server, debian, described

from serverflow_actions import registry
from serverflow_actions.kit import engine
from serverflow_actions.kit.apps import app_record
from serverflow_actions.kit.change import Change
from serverflow_actions.kit.probe import HostError
from serverflow_actions.kit.spec import Action, BadParams, Params, parse

ACTIONS = Path(registry.__file__).parent


def case_files() -> list[Path]:
    """All of them, sorted: AREA/cases/VERB/NAME.json."""
    return sorted(ACTIONS.glob("*/cases/*/*.json"))


def title(path: Path) -> str:
    """`redis.create: fresh`."""
    return f"{path.parents[2].name}.{path.parent.name}: {path.stem}"


def run_case(path: Path) -> None:
    """Raises AssertionError with the difference."""
    case = json.loads(path.read_text(encoding="utf-8"))
    action = registry.load(f"{path.parents[2].name}.{path.parent.name}")
    expect = case["expect"]
    server = debian(case.get("host", {}))
    try:
        params = parse(action.params, case["params"])
        if action.kind == "read":
            _read(action, params, server, expect)
        else:
            _change(action, params, server, expect, case)
    except (engine.Refused, HostError, BadParams) as error:
        code = {HostError: "action-failed", BadParams: "bad-params"}.get(type(error)) or error.code  # type: ignore[union-attr]  # only Refused is left
        wanted = expect.get("error")
        assert wanted, f"unexpected error: {error}"
        assert wanted["code"] == code, f"error code {code}: {error}"
        assert wanted["message"] in str(error), f"error message: {error}"
    else:
        assert "error" not in expect, f"no error, but expected {expect['error']}"


def _read(action: Action, params: Params, server: Server, expect: dict[str, Any]) -> None:
    before = server.snapshot()
    if action.streams:
        output = b"".join(action.plan(params, FakeProbe(server))).decode()
        _same(output, expect["output"], "output")
    else:
        outcome = engine.read(action, params, FakeProbe(server))
        _contains(outcome.data, expect["data"])
    assert server == before, "a read changed the server"


def _change(action: Action, params: Params, server: Server, expect: dict[str, Any], case: dict[str, Any]) -> None:
    before, safe = server.snapshot(), case.get("safe", False)
    probe = FakeProbe(server, safe=safe)
    try:
        plan = engine.forecast(action, params, probe)
        again = engine.forecast(action, params, probe)
    finally:
        assert server == before, "check mode changed the server"
    _same([_line(change) for change in plan.changes], expect.get("changes", []), "forecast")
    assert plan.plan_sha256 == again.plan_sha256, "two forecasts of one state differ"

    powers = powers_of(action, case["params"], server)
    told: list[dict[str, Any]] = []
    host = FakeHost(server, powers, safe=safe)
    done = engine.run(action, params, probe, host, told.append, plan.plan_sha256, host.arm if safe else None)
    _same([_line(change) for change in done.changes], expect.get("run", expect.get("changes", [])), "run")
    _same([c["change"] for c in told if c["t"] == "change"], [c.as_json() for c in done.changes], "told while it ran")
    _contains(done.data, expect.get("data", {}))
    _same(sorted(done.secrets), sorted(expect.get("secrets", [])), "secrets")
    for value in done.secrets.values():
        assert value not in json.dumps([told, done.data]), "a secret is in what gets into receipts"
    _same(described(server, expect.get("after", {})), expect.get("after", {}), "afterwards")

    if action.kind == "change" and not case["params"].get("new-password"):
        _quiet(action, params, server, powers, safe)
        if safe:
            return  # a crash in the middle of a safe change is rolled back
        _survives_crashes(action, params, before, powers, host.writes, expect)


def _quiet(action: Action, params: Params, server: Server, powers: Powers, safe: bool = False) -> None:
    """Applying twice changes nothing the second time."""
    host = FakeHost(server, powers, safe=safe)
    probe = FakeProbe(server, safe=safe)
    second = engine.run(action, params, probe, host, lambda _: None, arm=host.arm if safe else None)
    _same([_line(change) for change in second.changes], [], "second run")
    assert host.writes == 0, "the second run wrote something"


def _survives_crashes(
    action: Action, params: Params, start: Server, powers: Powers, writes: int, expect: dict[str, Any]
) -> None:
    """Cut off before any of its writes, the same action run again brings the server to the same end."""
    for fuse in range(writes):
        server = start.snapshot()
        try:
            engine.run(action, params, FakeProbe(server), FakeHost(server, powers, fuse), lambda _: None)
            raise AssertionError("no crash")
        except Crash:
            pass
        engine.run(action, params, FakeProbe(server), FakeHost(server, powers), lambda _: None)
        _same(described(server, expect.get("after", {})), expect.get("after", {}), f"after a crash at write {fuse}")
        _quiet(action, params, server, powers)


def powers_of(action: Action, raw: dict[str, Any], server: Server) -> Powers:
    """What the sandbox and the broker let this action do, with these parameters."""

    def filled(patterns: tuple[str, ...]) -> tuple[str, ...]:
        values = {f"{{{name}}}": str(value) for name, value in raw.items()}
        # `{kind=sshd}/etc/ssh/sshd_config.d` counts only where `kind` is `sshd`.
        met = {f"{{{name}={value}}}": "" for name, value in raw.items() if any("=" in each for each in patterns)}
        found = (values.get(pattern, _fill(pattern, {**met, **values})) for pattern in patterns)
        return tuple(pattern for pattern in found if not pattern.startswith("{"))

    writes = filled(action.writes)
    if action.run_as == "app":
        record = app_record(FakeProbe(server), raw.get("app") or raw["name"])
        writes += record.data if record else ()
    units = tuple(unit if "." in unit else f"{unit}.service" for unit in filled(action.units))
    return Powers(writes, units, filled(action.packages), action.accounts, filled(action.host_verbs))


def _fill(pattern: str, values: dict[str, str]) -> str:
    for marker, value in values.items():
        pattern = pattern.replace(marker, value)
    return pattern


def _line(change: Change) -> str:
    return f"{change.verb} {change.kind} {change.name}"


def _same(found: Any, wanted: Any, what: str) -> None:
    assert found == wanted, f"{what}:\n  found    {json.dumps(found)}\n  expected {json.dumps(wanted)}"


def _contains(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    _same({key: found.get(key) for key in wanted}, wanted, "data")
