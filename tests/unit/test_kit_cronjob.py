"""A job's file: the same job is the same bytes, and nothing else is a job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit.cronjob import Job, from_json

COMMAND = Job("report", "15 3 * * *", "Europe/Berlin", app="shop", command=("bin/report", "--all"), memory=1 << 29)
ACTION = Job("nightly", "@daily", action="service.restart", params=("unit=nginx",), retries=2, catch_up=True)


@pytest.mark.parametrize("job", [COMMAND, ACTION, COMMAND._replace(enabled=False, disabled_because="ana left")])
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    assert from_json(job.as_json().encode()) == job


def test_the_file() -> None:
    assert COMMAND.path == "/etc/serverflow/cron/report.json"
    assert COMMAND.as_json() == (
        '{"action": "", "app": "shop", "catch_up": false, "command": ["bin/report", "--all"], "disabled_because": "", '
        '"enabled": true, "late": 300, "memory": 536870912, "name": "report", "overlap": "skip", "params": [], '
        '"retries": 0, "retry_delay": 60, "schedule": "15 3 * * *", "timeout": 3600, "timezone": "Europe/Berlin", '
        '"v": 1}\n'
    )


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        (COMMAND, {"v": 2}), (COMMAND, {"v": None}), (COMMAND, {"more": 1}),
        (COMMAND, {"name": "../x"}), (COMMAND, {"name": 7}), (COMMAND, {"name": "Report"}),
        (COMMAND, {"schedule": "15 3 * *"}), (COMMAND, {"schedule": None}), (COMMAND, {"timezone": "../etc/passwd"}),
        (COMMAND, {"enabled": 1}), (COMMAND, {"timeout": True}), (COMMAND, {"timeout": -1}),
        (COMMAND, {"timeout": 1.5}), (COMMAND, {"timeout": 0}),
        (COMMAND, {"overlap": "maybe"}), (COMMAND, {"app": ""}), (COMMAND, {"app": "../x"}), (COMMAND, {"command": []}),
        (COMMAND, {"command": "bin/report"}), (COMMAND, {"command": ["a", 1]}), (COMMAND, {"command": ["a", "|", "b"]}),
        (COMMAND, {"command": ["a\nb"]}), (COMMAND, {"params": ["a=b"]}), (COMMAND, {"action": "service.restart"}),
        (COMMAND, {"memory": 0}), (ACTION, {"memory": 1}), (ACTION, {"command": ["a"]}), (ACTION, {"action": "../x"}),
        (ACTION, {"params": [1]}), (ACTION, {"params": ["a\nb=1"]}), (ACTION, {"disabled_because": "a\nb"}),
    ],
)  # fmt: skip
def test_what_is_no_job(job: Job, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        from_json(json.dumps({**json.loads(job.as_json()), **changes}).encode())


@pytest.mark.parametrize("field", ["v", "name", "schedule", "app", "command", "memory"])
def test_what_a_job_cannot_do_without(field: str) -> None:
    value = json.loads(COMMAND.as_json())
    del value[field]
    with pytest.raises(ValueError):
        from_json(json.dumps(value).encode())


def test_a_file_of_a_version_that_knew_fewer_fields() -> None:
    value = json.loads(COMMAND.as_json())
    del value["late"]
    assert from_json(json.dumps(value).encode()) == COMMAND


@given(
    st.binary() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(content)


def test_a_file_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(ValueError):
        from_json(b"[" * 100_000)
