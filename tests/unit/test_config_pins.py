from dataclasses import replace
from pathlib import Path

import pytest

from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.pins import Pin, dump, load, parse, read_bytes, twins, version
from serverflow_cli.errors import ConfigError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICTUuW9Y2m1KhRIxO70Coo6/DKld7G5Mhu94zn8B54is"
NEXT, FORMER = (KEY[:-4] + end for end in ("AAAA", "BBBB"))
FLEET = "f1" * 16
SERVER = Pin("web1", (KEY,), "known_hosts", "2026-01-02T03:04:05Z", "203.0.113.7:22", "ab" * 32, KEY)
JUMP = Pin("bastion.acme.app:22", (KEY, KEY + " second"), "prompt", "2026-01-02T03:04:05+01:00", "bastion.acme.app:22")


def test_round_trip() -> None:
    pins = {pin.name: pin for pin in (SERVER, JUMP)}
    assert parse(dump(pins, 1, FLEET)) == pins


def test_a_server_whose_keys_are_rotated() -> None:
    rotated = replace(SERVER, next_host_key=NEXT, next_identity=NEXT, former=(FORMER,))
    assert parse(dump({"web1": rotated}, 3, FLEET)) == {"web1": rotated}
    assert rotated.accepted_host_keys == (KEY, NEXT)
    assert rotated.identities == (FORMER, KEY, NEXT)
    assert (SERVER.accepted_host_keys, SERVER.identities, JUMP.identities) == ((KEY,), (KEY,), ())


def test_two_names_for_one_server() -> None:
    """By its id or by a key: it signs in both names. While it is renamed, fleet.toml has one of them."""
    prod = replace(SERVER, name="prod1", server_id="cd" * 32, identity=NEXT)
    pins = {"web1": SERVER, "prod1": prod, "retired-abababababab": SERVER, JUMP.name: JUMP, "jump-2": JUMP}
    names = ["web1", "prod1", "new1"]
    assert twins(pins, names) == {}
    both = {"web1": "staging1", "staging1": "web1"}
    for copy in (SERVER, replace(SERVER, identity=FORMER), replace(prod, server_id="ef" * 32, next_identity=KEY)):
        pins["staging1"] = copy
        found = twins(pins, [*names, "staging1"])
        assert found.items() >= both.items()
        assert twins(pins, names) == {}


def test_the_version() -> None:
    assert version(dump({"web1": SERVER}, 7, FLEET)) == 7
    assert version(b"") == 0


def test_the_bytes_do_not_depend_on_the_order() -> None:
    assert dump({"web1": SERVER, JUMP.name: JUMP}, 1, FLEET) == dump({JUMP.name: JUMP, "web1": SERVER}, 1, FLEET)


def test_a_folder_without_pins(tmp_path: Path) -> None:
    assert load(FleetFolder(tmp_path)) == {}
    assert read_bytes(FleetFolder(tmp_path)) == b""


def test_reads_what_was_written(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.pins_toml.write_bytes(dump({"web1": SERVER}, 1, FLEET))
    assert load(folder) == {"web1": SERVER}
    assert read_bytes(folder) == folder.pins_toml.read_bytes()


@pytest.mark.parametrize(
    "bad",
    [
        replace(SERVER, host_keys=()),
        replace(SERVER, host_keys=('command="id" ' + KEY,)),
        replace(SERVER, origin="guess"),  # type: ignore[arg-type]  # what a hand-edited file may hold
        replace(SERVER, pinned_at="yesterday"),
        replace(SERVER, pinned_at="2026-01-02T03:04:05"),
        replace(SERVER, server_id="AB" * 32),
        replace(SERVER, identity="ssh-rsa AAAA"),
        replace(SERVER, next_identity="ssh-rsa AAAA"),
        replace(SERVER, next_host_key="-oProxyCommand=id"),
        replace(SERVER, former=("ssh-ed25519 AAAA",)),
        replace(SERVER, address="203.0.113.7"),
        replace(SERVER, address="203.0.113.7:0"),
        replace(SERVER, address="-oProxyCommand=id:22"),
    ],
)
def test_refuses_pins_that_sf_would_not_write(bad: Pin) -> None:
    with pytest.raises(ConfigError):
        parse(dump({"web1": bad}, 1, FLEET))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"schema = ",
        b"schema = 2\n",
        b"schema = 1\n",
        b"schema = 1\nversion = 0\n",
        b"schema = 1\nversion = true\n",
        b"schema = 1\nversion = 1\nextra = 1\n",
        b"schema = 1\nversion = 1\npins = 1\n",
        b"schema = 1\nversion = 1\n[pins]\nweb1 = 1\n",
        b"schema = 1\nversion = 1\n[pins.web1]\n",
    ],
)
def test_refuses_damaged_files(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(data)


def test_refuses_an_unknown_key() -> None:
    with pytest.raises(ConfigError, match="web1: needs exactly"):
        parse(dump({"web1": SERVER}, 1, FLEET) + b'note = "x"\n')
