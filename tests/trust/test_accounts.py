"""What runs as an account that a rollback takes away (remote/accounts.py)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import accounts
import layout
import units

UID = 61234


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(layout, "ENVIRONMENT", {"PATH": "/nowhere"})
    monkeypatch.setattr(units, "run", lambda *_: None)
    if os.geteuid():
        pytest.skip("only root can run something as somebody else")
    with subprocess.Popen(["/bin/sleep", "600"], user=UID) as process:
        yield process
        process.kill()


def test_nothing_of_it_survives(program: subprocess.Popen[bytes]) -> None:
    assert accounts.end_processes({UID}) == []
    assert program.wait(5) == -9


def test_who_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "now").write_text("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/:\neve:x:1003:1003::/:\nbad\n")
    (tmp_path / "before").write_text("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/:\n")
    monkeypatch.setattr(layout, "PASSWD", str(tmp_path / "now"))
    assert accounts.gone(str(tmp_path / "before")) == {1003}
    assert accounts.gone(str(tmp_path / "moved back by now")) == set()
    assert accounts.end_processes(set()) == []
