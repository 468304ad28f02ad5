"""Which accounts a rollback takes away (remote/accounts.py). That nothing of them lives on: targets/test_safe.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import accounts
import layout


def test_who_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "now").write_text("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/:\neve:x:1003:1003::/:\nbad\n")
    (tmp_path / "before").write_text("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/:\n")
    monkeypatch.setattr(layout, "PASSWD", str(tmp_path / "now"))
    assert accounts.gone(str(tmp_path / "before")) == {1003}
    assert accounts.gone(str(tmp_path / "moved back by now")) == set()
    (tmp_path / "before").write_text("ana:x:1000:1000::/:\n")  # no copy of passwd(5) is without root
    assert accounts.gone(str(tmp_path / "before")) == set()
    assert accounts.end_processes(set()) == []
