"""What fuzzing found, each once more by itself: a reader that raised something else than it says."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from serverflow_cli.config import dotenv, load, pins
from serverflow_cli.errors import ConfigError, TrustError, UsageError
from serverflow_cli.trust import anchor, deploykey, invitation, keys, receipts

DEEP = b"[" * 100_000
DEEP_TOML = "a = " + "[" * 20_000 + "]" * 20_000


def test_a_private_key_with_a_letter_that_is_not_ascii() -> None:
    text = keys.private_text(keys.new_private_key("ana"))
    with pytest.raises(ConfigError):
        keys.from_text(text.replace("b3Blb", "é3Blb"))
    with pytest.raises(ConfigError):
        deploykey.from_text("é" + base64.b64encode(text.encode()).decode())


def test_an_anchor_that_is_nested_deeply(tmp_path: Path) -> None:
    (tmp_path / "anchor.json").write_bytes(DEEP)
    with pytest.raises(TrustError, match="damaged"):
        anchor.load(tmp_path / "anchor.json")


def test_a_line_of_receipts_that_is_nested_deeply(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    path.write_bytes(DEEP + b"\n")
    with pytest.raises(TrustError, match="damaged"):
        list(receipts.entries(path))
    assert receipts.verify(path, {}) == ["line 1: it is damaged"]


def test_pins_and_an_invitation_that_are_nested_deeply() -> None:
    with pytest.raises(ConfigError):
        pins.parse(DEEP_TOML.encode())
    with pytest.raises(ConfigError):
        invitation.parse(DEEP_TOML)


def test_a_number_of_more_digits_than_python_reads() -> None:
    text = f"schema = {'9' * 5000}"
    with pytest.raises(ConfigError, match="too long"):
        load.parse(text)
    with pytest.raises(ConfigError, match="newer than this sf"):
        load.parse(f"schema = 0x{'f' * 5000}")  # which it reads, but cannot write
    with pytest.raises(ConfigError):
        pins.version(text.encode())
    with pytest.raises(ConfigError):
        invitation.parse(text)
    with pytest.raises(UsageError):
        dotenv.parse_table(text)
