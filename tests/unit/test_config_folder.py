from pathlib import Path

import pytest

from serverflow_cli.config.folder import FleetFolder, data_dir, find, state_dir
from serverflow_cli.errors import ConfigError


@pytest.fixture
def fleets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """One fleet in each place where `find` looks."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    places = {name: tmp_path / name for name in ("explicit", "environment", "upward")}
    places["user"] = tmp_path / "config" / "serverflow"
    for place in places.values():
        place.mkdir(parents=True)
        (place / "fleet.toml").write_text("schema = 1\n")
    (places["upward"] / "deep" / "er").mkdir(parents=True)
    return places


def test_the_order(fleets: dict[str, Path], tmp_path: Path) -> None:
    deep, env = fleets["upward"] / "deep" / "er", {"SF_FLEET": str(fleets["environment"])}
    assert find(str(fleets["explicit"]), env, deep).path == fleets["explicit"]
    assert find(None, env, deep).path == fleets["environment"]
    assert find(None, {}, deep).path == fleets["upward"]
    assert find(None, {"SF_FLEET": ""}, tmp_path).path == fleets["user"]


def test_the_file_itself_may_be_named(fleets: dict[str, Path]) -> None:
    assert find(str(fleets["explicit"] / "fleet.toml"), {}).path == fleets["explicit"]


def test_what_was_named_must_exist(fleets: dict[str, Path], tmp_path: Path) -> None:
    deep = fleets["upward"] / "deep"
    with pytest.raises(ConfigError, match="--fleet: there is no"):
        find(str(tmp_path), {}, deep)
    with pytest.raises(ConfigError, match="SF_FLEET: there is no"):
        find(None, {"SF_FLEET": str(tmp_path)}, deep)


def test_no_fleet_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(ConfigError) as caught:
        find(None, {}, tmp_path)
    assert (caught.value.exit_code, caught.value.hint) == (3, "sf init")


def test_what_is_in_it(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    names = [path.name for path in (folder.fleet_toml, folder.pins_toml, folder.trust, folder.secrets_toml)]
    assert names == ["fleet.toml", "pins.toml", "trust", "secrets.toml"]


def test_private_folders_follow_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert data_dir() == tmp_path / "data" / "serverflow"
    assert state_dir() == tmp_path / "state" / "serverflow"
    assert not data_dir().exists()
