"""What every action declares, whatever it does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.spec import Action, BadParams, parse

ACTIONS = [registry.load(name) for name in registry.names()]
each_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
PROTOCOL = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")


@each_action
def test_texts_are_there_for_manual_and_completion(action: Action) -> None:
    assert action.summary and not action.summary.endswith(".")
    for param in action.params:
        assert param.help and not param.help.endswith("."), param.name


@each_action
def test_the_protocol_has_each_parameter_of_a_request_that_it_has(action: Action) -> None:
    row = re.search(rf"^\| `{re.escape(action.name)}`[^|]*\|([^|]*)\|", PROTOCOL, re.MULTILINE)
    if row:
        assert set(re.findall(r"`([a-z_-]+)`", row.group(1))) >= {param.name for param in action.params}


@each_action
def test_reads_declare_no_power(action: Action) -> None:
    if action.kind == "read" and action.profile != "core":
        powers = (action.writes, action.units, action.packages, action.host_verbs, action.accounts, action.locks)
        assert (action.profile, powers) == ("read", ((), (), (), (), False, ()))


@each_action
def test_placeholders_name_required_parameters(action: Action) -> None:
    required = {param.name for param in action.params if param.required}
    for pattern in (*action.writes, *action.units, *action.packages, *action.reads):
        assert set(re.findall(r"\{([a-z-]*)(?:=[a-z0-9-]+)?\}", pattern)) <= required


@each_action
def test_what_runs_as_an_app_is_told_which(action: Action) -> None:
    if action.run_as:
        assert action.run_as == "app"
        assert {"app", "name"} & {param.name for param in action.params if param.required}


@each_action
def test_the_engine_never_writes_where_the_system_is_configured_as_a_whole(action: Action) -> None:
    whole = {
        "/",
        "/etc",
        "/usr",
        "/var",
        "/var/lib",
        "/run",
        "/root",
        "/boot",
        "/var/lib/serverflow",
        "/etc/serverflow",
    }
    assert not whole & {folder.rstrip("/") or "/" for folder in action.writes}


@each_action
def test_no_parameter_takes_a_leading_dash(action: Action) -> None:
    for param in action.params:
        if param.type == "document":
            continue
        for raw in ("-x", "--help", "-1", "-"):
            value = [raw] if param.many else raw
            with pytest.raises(BadParams, match=re.escape(param.name)):
                parse([param], {param.name: value})


def test_the_manifest_does_not_depend_on_the_process() -> None:
    program = "import json; from serverflow_actions import registry; print(json.dumps(registry.manifest()))"

    def manifest(seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True).stdout

    first = manifest("1")
    assert first == manifest("2")
    assert list(json.loads(first)["actions"]) == sorted(registry.names())


def test_unknown_actions_are_not_loaded() -> None:
    for name in ("redis.nothing", "kit.spec", "redis._shared", "..os", "redis.create.x", "redis"):
        with pytest.raises(KeyError):
            registry.load(name)
