from pathlib import Path

import pytest

from serverflow_cli.config import secrets
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import ConfigError, TrustError, UsageError


class Key:
    """Stands in for an X25519 key: the box shows who may open it."""

    def __init__(self, owner: str) -> None:
        self._mark = owner.encode() + b":"

    def seal(self, plain: bytes) -> bytes:
        return self._mark + plain

    def unseal(self, box: bytes) -> bytes:
        if not box.startswith(self._mark):
            raise TrustError("not ours")
        return box.removeprefix(self._mark)


ANA, BEA = Key("ana"), Key("bea")
BOTH = {"bea": BEA.seal, "ana": ANA.seal}


@pytest.fixture
def folder(tmp_path: Path) -> FleetFolder:
    return FleetFolder(tmp_path)


def test_each_operator_opens_the_secret(folder: FleetFolder) -> None:
    secrets.put(folder, "slack_ops", "https://hooks.example/\n", BOTH)
    assert [secrets.read(folder, "slack_ops", key.unseal) for key in (ANA, BEA)] == ["https://hooks.example/\n"] * 2
    assert secrets.recipients(folder) == {"slack_ops": ("ana", "bea")}


def test_the_file_does_not_depend_on_the_order(folder: FleetFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = FleetFolder(tmp_path / "other")
    for name in ("one", "two"):
        secrets.put(folder, name, "v", BOTH)
    for name in ("two", "one"):
        secrets.put(other, name, "v", dict(reversed(BOTH.items())))
    assert folder.secrets_toml.read_bytes() == other.secrets_toml.read_bytes()


def test_remove(folder: FleetFolder) -> None:
    assert not secrets.remove(folder, "gone")
    assert not folder.secrets_toml.exists()
    secrets.put(folder, "one", "v", BOTH)
    assert secrets.remove(folder, "one")
    with pytest.raises(ConfigError, match="there is no secret one"):
        secrets.read(folder, "one", ANA.unseal)


def test_a_key_that_cannot_open_it(folder: FleetFolder) -> None:
    secrets.put(folder, "one", "v", {"ana": ANA.seal})
    with pytest.raises(ConfigError, match="not sealed to this key"):
        secrets.read(folder, "one", BEA.unseal)


def test_a_box_that_was_moved_to_another_name_is_refused(folder: FleetFolder) -> None:
    secrets.put(folder, "slack_ops", "v", BOTH)
    moved = folder.secrets_toml.read_text().replace("[slack_ops]", "[cf_token]")
    folder.secrets_toml.write_text(moved)
    with pytest.raises(ConfigError, match="was sealed as 'slack_ops'"):
        secrets.read(folder, "cf_token", ANA.unseal)


def test_nobody_to_seal_to_and_bad_names(folder: FleetFolder) -> None:
    with pytest.raises(UsageError):
        secrets.put(folder, "one", "v", {})
    for name in ("", "Up", "-x", "a.b", "a\n", "a" * 64):
        with pytest.raises(UsageError):
            secrets.put(folder, name, "v", BOTH)
    assert not folder.secrets_toml.exists()


def test_which_references_have_no_value(folder: FleetFolder) -> None:
    secrets.put(folder, "one", "v", BOTH)
    assert secrets.missing(folder, ["one", "two"]) == ["two"]


@pytest.mark.parametrize("text", ["x", "one = 1", '[one]\nana = "%"', "[one]\nana = 1", "one = [1]"])
def test_a_damaged_file(folder: FleetFolder, text: str) -> None:
    folder.secrets_toml.write_text(text)
    with pytest.raises(ConfigError, match="damaged"):
        secrets.recipients(folder)
