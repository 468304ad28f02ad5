"""What a plan for a job shows: its own fields, and nothing of other jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fakehost import FakeProbe, debian

from serverflow_actions import registry
from serverflow_actions.kit import engine
from serverflow_actions.kit.change import Change
from serverflow_actions.kit.spec import parse

_CASES = Path(registry.__file__).parent / "cron/cases"


def _planned(case: str, **params: Any) -> dict[str, Change]:
    found = json.loads((_CASES / f"{case}.json").read_text())
    verb = registry.load(f"cron.{case.partition('/')[0]}")
    probe = FakeProbe(debian(found["host"]))
    return {
        each.name: each
        for each in engine.forecast(verb, parse(verb.params, {**found["params"], **params}), probe).changes
    }


def test_a_plan_shows_what_changes_of_the_job_and_no_text_of_any_file() -> None:
    planned = _planned("add/changed-schedule-beside-others")
    fields = planned["/etc/serverflow/cron/reload-nginx.json"].fields
    assert fields["schedule"] == ("15 3 * * *", "*/5 * * * *")
    assert fields["overlap"] == ("skip", "kill")
    assert set(fields) == {"sha256", "schedule", "overlap", "timeout", "retries", "retry_delay", "catch_up", "late"}
    assert not any(change.diff for change in planned.values() if "cron" in change.name)
    assert "bin/report" not in json.dumps([change.as_json() for change in planned.values()])


def test_a_plan_for_a_new_job_shows_what_it_is() -> None:
    fields = _planned("command/fresh")["/etc/serverflow/cron/report.json"].fields
    assert fields["app"] == (None, "shop") and fields["command"][1]
    assert "action" not in fields and "disabled_because" not in fields


def test_what_stands_in_a_damaged_file_is_not_shown() -> None:
    planned = _planned("add/own-file-is-damaged")
    (change,) = (each for name, each in planned.items() if name.startswith("/etc/serverflow/cron/"))
    assert change.verb == "update" and not change.diff
    assert all(before is None for key, (before, _) in change.fields.items() if key != "sha256" and key != "mode")
