from pathlib import Path

import pytest

from serverflow_cli.config import secrets
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.secrets import Content
from serverflow_cli.errors import ConfigError, UsageError

ANA, BEA = secrets.box_name("ana", "x25519:A"), secrets.box_name("bea", "x25519:B")
CONTENT = Content("f1" * 16, 3, {"two": {BEA: b"2b", ANA: b"2a"}, "one": {ANA: b"\0"}})


def test_it_reads_what_it_writes() -> None:
    assert secrets.parse(secrets.dump(CONTENT)) == CONTENT
    empty = Content("f1" * 16, 1, {})
    assert secrets.parse(secrets.dump(empty)) == empty


def test_the_file_does_not_depend_on_the_order() -> None:
    turned = {name: dict(reversed(list(CONTENT.boxes[name].items()))) for name in ("one", "two")}
    assert secrets.dump(Content(CONTENT.fleet, CONTENT.version, turned)) == secrets.dump(CONTENT)


def test_a_box_tells_its_holder_and_its_key() -> None:
    assert secrets.holder(ANA) == "ana"
    assert secrets.is_box_of(ANA, "x25519:A") and not secrets.is_box_of(ANA, "x25519:B")
    assert secrets.box_name("ana", "x25519:next") != ANA


def test_a_value_carries_its_name() -> None:
    plain = secrets.labelled("slack_ops", "a\0b\n")
    assert secrets.value_of("slack_ops", plain) == "a\0b\n"
    with pytest.raises(ConfigError, match="was sealed as 'slack_ops'"):
        secrets.value_of("cf_token", plain)
    with pytest.raises(ConfigError, match="not UTF-8"):
        secrets.value_of("a", b"a\0\xff")


@pytest.mark.parametrize("name", ["", "Up", "-x", "a.b", "a\n", "a" * 64, "é", "1a"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError, match="not a secret's name"):
        secrets.labelled(name, "v")


@pytest.mark.parametrize("value", ["", "x" * (secrets.LONGEST_VALUE + 1), "key\udcff"])
def test_bad_values_are_not_shown(value: str) -> None:
    with pytest.raises(UsageError) as refused:
        secrets.labelled("one", value)
    assert "one" in refused.value.message
    assert not value or value[:4] not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "one = 1",
        'version = 1\nfleet = "nothex"',
        f'version = true\nfleet = "{"f1" * 16}"',
        f'version = 0\nfleet = "{"f1" * 16}"',
        f'version = 1\nfleet = "{"f1" * 16}"\nmore = 1',
        f'version = 1\nfleet = "{"f1" * 16}"\nsecrets = 1',
        f'version = 1\nfleet = "{"f1" * 16}"\n[secrets.Up]\n"{ANA}" = ""',
        f'version = 1\nfleet = "{"f1" * 16}"\n[secrets.one]\nana = ""',
        f'version = 1\nfleet = "{"f1" * 16}"\n[secrets.one]\n"{ANA}" = "%"',
        f'version = 1\nfleet = "{"f1" * 16}"\n[secrets.one]\n"{ANA}" = 1',
    ],
)
def test_a_damaged_file(text: str) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        secrets.parse(text.encode())


def test_no_file_is_no_bytes(tmp_path: Path) -> None:
    assert secrets.read_bytes(FleetFolder(tmp_path)) == b""
