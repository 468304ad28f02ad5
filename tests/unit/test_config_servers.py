"""The short way to the servers gives what the long way gives, and is taken for a content that was checked only."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.load import load
from serverflow_cli.config.servers import ServerAddress, load_servers, servers_alone
from serverflow_cli.errors import ConfigError

EXAMPLE = Path(__file__).parent / "fleet.example.toml"


def test_both_ways_agree(tmp_path: Path) -> None:
    folder, remembered = FleetFolder(tmp_path), tmp_path / "state" / "checked"
    folder.fleet_toml.write_bytes(EXAMPLE.read_bytes())
    first, second = load_servers(folder, remembered), load_servers(folder, remembered)
    full = load(folder).servers
    assert first == second
    assert list(first) == list(full)
    for name, server in full.items():
        found = first[name]
        assert (found.host, found.port, found.jump) == (server.host, server.port, server.jump)
        assert (found.roles, found.tags) == (server.roles, server.tags)


def test_another_content_is_checked_again(tmp_path: Path) -> None:
    folder, remembered = FleetFolder(tmp_path), tmp_path / "checked"
    folder.fleet_toml.write_text('schema = 1\n[servers.web1]\nhost = "192.0.2.1"\n')
    load_servers(folder, remembered)
    folder.fleet_toml.write_text('schema = 1\n[servers.web1]\nhost = "192.0.2.1"\nprot = 22\n')
    for _ in range(2):
        with pytest.raises(ConfigError, match="prot"):
            load_servers(folder, remembered)


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.fleet_toml.write_text('schema = 1\n[servers.web1]\nhost = "192.0.2.1"\n')
    assert list(load_servers(folder, Path("/proc/nowhere/checked"))) == ["web1"]


def test_the_servers_of_a_file_that_is_wrong_elsewhere(tmp_path: Path) -> None:
    text = 'schema = 1\n[servers.web1]\nhost = "10.0.0.1"\nport = 2222\n[checks.z]\non = "all"\nexpect = ["foo"]\n'
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(ConfigError):
        load_servers(FleetFolder(tmp_path), tmp_path / "remembered")
    assert servers_alone(FleetFolder(tmp_path)) == {"web1": ServerAddress("10.0.0.1", 2222)}
    (tmp_path / "fleet.toml").write_text(text.replace("2222", '"x"'))
    with pytest.raises(ConfigError):
        servers_alone(FleetFolder(tmp_path))
