from pathlib import Path

import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.trust.seen import Seen, advance, load


def seen(path: Path, version: int, data: bytes) -> None:
    advance(path, load(path), "pins.toml", version, data)


def test_it_goes_up_only(tmp_path: Path) -> None:
    path = tmp_path / "fleet/pins.seen.json"
    assert load(path) == Seen()
    seen(path, 0, b"")
    assert not path.exists()
    seen(path, 3, b"three")
    seen(path, 3, b"three")
    for version, data in ((2, b"two"), (0, b""), (3, b"another")):
        with pytest.raises(TrustError) as refused:
            seen(path, version, data)
        assert refused.value.code == "older-version"
    seen(path, 5, b"five")
    assert load(path).version == 5


def test_a_process_that_read_before_another_wrote_takes_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "pins.seen.json"
    early = load(path)
    seen(path, 6, b"six")
    advance(path, early, "pins.toml", 5, b"five")
    assert load(path).version == 6


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"version": true, "sha256": ""}', '{"version": 1, "sha256": "x"}'])
def test_a_damaged_record_is_not_guessed_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "pins.seen.json"
    path.write_text(damage)
    with pytest.raises(TrustError):
        load(path)
