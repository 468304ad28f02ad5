"""pins.toml in a workspace: what a single root key can make of names."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.pins import Pin
from serverflow_cli.flows import servers, trust
from serverflow_cli.flows.init import init
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.trust.keys import new_private_key, public_line

HOST_KEY, IDENTITY, OTHER = (public_line(new_private_key("web1").public_key) for _ in range(3))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two servers, each with a pin of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asyncio.run(init(str(tmp_path / "fleet"), key=None, name="ana", settings=Settings(), ask=None))
    found = Workspace(FleetFolder(tmp_path / "fleet"), Settings())
    with found.folder.fleet_toml.open("a") as file:
        file.write('\n[servers.prod1]\nhost = "192.0.2.1"\n\n[servers.staging1]\nhost = "192.0.2.2"\n')
    prod = Pin("prod1", (HOST_KEY,), "prompt", "2026-01-02T03:04:05Z", "192.0.2.1:22", "ab" * 32, IDENTITY)
    staging = replace(prod, name="staging1", address="192.0.2.2:22", server_id="cd" * 32, identity=OTHER)
    found.write_pins(lambda _: {"prod1": prod, "staging1": staging})
    found.refresh()
    return found


def test_a_name_that_is_pinned_to_the_server_of_another_is_told(workspace: Workspace) -> None:
    """What is meant for staging would be done in production."""

    assert "pinned as one server" not in str(trust.findings(workspace))
    workspace.write_pins(lambda pins: pins | {"staging1": replace(pins["prod1"], name="staging1")})
    assert workspace.twins == {"staging1": "prod1", "prod1": "staging1"}
    assert "prod1 and staging1 are pinned as one server" in str(trust.findings(workspace))


def test_a_server_that_is_being_renamed_has_two_pins(workspace: Workspace) -> None:
    workspace.write_pins(lambda pins: pins | {"live1": replace(pins["prod1"], name="live1")})
    workspace.refresh()
    assert workspace.link("prod1").server_id == "ab" * 32
    asyncio.run(servers.rename(workspace, "prod1", "live1", plan=False, approve=lambda _: True))
    workspace.refresh()
    assert workspace.link("live1").server_id == "ab" * 32
    assert "prod1" not in workspace.pins
