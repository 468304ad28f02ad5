"""Events: their schema, and who hears of which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from serverflow_actions.kit import events
from serverflow_actions.kit.events import KINDS, SEVERITIES, Event, Rule, matches, rule

FAILED = Event(
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    kind="cron.failed",
    severity="error",
    state="open",
    key="cron.failed/report",
    server="web1",
    server_id=64 * "a",
    hostname="web1.example.com",
    at="2026-01-02T03:15:09Z",
    since="2026-01-02T03:15:09Z",
    count=1,
    title="report failed: exit code 1",
    data={"job": "report", "exit": 1},
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("*", Rule("*", "error")),
        ("cron.*", Rule("cron.*", "error")),
        ("cron.* warning", Rule("cron.*", "warning")),
        ("safe.rolled_back critical", Rule("safe.rolled_back", "critical")),
    ],
)
def test_rules(text: str, found: Rule) -> None:
    assert rule(text) == found
    assert rule(found.text) == found


@pytest.mark.parametrize(
    "text",
    ["", "cron", "cron.", "*.failed", "cron.f*", "cron.*  error", "cron.* bad", "cron.* error x", " cron.*", "Cron.*",
     "crom.*", "cron.failled", "cron.*\n", "[a].*", None, 1],
)  # fmt: skip
def test_what_is_no_rule(text: Any) -> None:
    with pytest.raises(ValueError):
        rule(text)


@pytest.mark.parametrize(
    ("rules", "kind", "severity", "wanted"),
    [
        (["*"], "cron.failed", "error", True),
        (["*"], "cron.failed", "critical", True),
        (["*"], "cron.late", "warning", False),
        (["cron.* warning"], "cron.late", "warning", True),
        (["cron.* warning"], "safe.rolled_back", "error", False),
        (["safe.*", "cron.failed"], "cron.failed", "error", True),
        (["safe.*", "cron.failed"], "cron.missed", "error", False),
        (["* info"], "notify.test", "info", True),
        ([], "cron.failed", "critical", False),
    ],
)
def test_who_hears_of_it(rules: list[str], kind: str, severity: str, wanted: bool) -> None:
    assert matches(rules, kind, severity) is wanted


def test_kinds() -> None:
    for name, kind in KINDS.items():
        assert kind.severity in SEVERITIES and kind.meaning
        assert rule(name).kinds == name


def test_an_event_fits_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(events.schema())
    for kind in KINDS:
        for state in events.STATES:
            jsonschema.validate(replace(FAILED, kind=kind, state=state).as_json(), events.schema())


@pytest.mark.parametrize(
    ("field", "value"),
    [("v", 2), ("id", "x"), ("kind", "cron"), ("severity", "bad"), ("state", "closed"), ("count", 0), ("count", "1"),
     ("at", "2026-01-02 03:15:09"), ("since", "2026-01-02T03:15:09+01:00"), ("title", None), ("data", [])],
)  # fmt: skip
def test_the_schema_refuses_others(field: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**FAILED.as_json(), field: value}, events.schema())


@pytest.mark.parametrize("field", FAILED.as_json())
def test_all_is_there(field: str) -> None:
    value = FAILED.as_json()
    del value[field]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, events.schema())
    with pytest.raises(ValueError):
        events.from_json(value)


def test_an_event_comes_back_as_it_was() -> None:
    assert events.from_json(FAILED.as_json()) == FAILED


def test_what_later_versions_add_is_no_error() -> None:
    later = {**FAILED.as_json(), "more": 1, "kind": "backup.failed"}
    jsonschema.validate(later, events.schema())
    assert events.from_json(later).kind == "backup.failed"


@pytest.mark.parametrize(
    ("field", "value"),
    [("v", 2), ("id", 1), ("count", "1"), ("count", True), ("severity", "bad"), ("state", "x"), ("data", [])],
)  # fmt: skip
def test_what_is_no_event(field: str, value: object) -> None:
    with pytest.raises(ValueError):
        events.from_json({**FAILED.as_json(), field: value})
