"""What must be on disk before it counts: a command before anything runs, a receipt before it is sent (steps 10, 13).

A power cut loses what was not fsynced. So the test watches fsync(2), and it fails when a call is taken out.
"""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import layout
import segments
import store

OP = "01J0000000000000000000000A"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's folders, somewhere else."""
    (tmp_path / "ops").mkdir()
    monkeypatch.setattr(layout, "OPS", str(tmp_path / "ops"))
    monkeypatch.setattr(layout, "BALLAST", str(tmp_path / "ballast"))
    monkeypatch.setattr(layout, "CHAIN", str(tmp_path / "chain"))
    return tmp_path


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel was asked to write to disk, in order: paths at the time of the call."""
    found: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        found.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return found


def _without(module: types.ModuleType, line: str) -> types.ModuleType:
    """The module with one line taken out."""
    source = inspect.getsource(module)
    assert source.count(line) == 1
    changed = types.ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(source.replace(line, "pass"), str(module.__file__), "exec"), vars(changed))
    return changed


def _burned(state: Path, burn: Callable[[str, bytes], int], synced: list[str]) -> bool:
    """Whether the command, the operation's folder and the list of operations are all on disk."""
    synced.clear()
    os.close(burn(OP, b"frame"))
    return {f"{state}/ops/{OP}/command", f"{state}/ops/{OP}", f"{state}/ops"} <= set(synced)


def test_a_command_is_on_disk_before_anything_runs(state: Path, synced: list[str]) -> None:
    assert _burned(state, store.burn, synced)


@pytest.mark.parametrize("line", ["os.fsync(file.fileno())", "sync_folder(folder)", "sync_folder(layout.OPS)"])
def test_without_one_of_its_calls_it_is_not(state: Path, synced: list[str], line: str) -> None:
    assert not _burned(state, _without(store, line).burn, synced)


def _appended(state: Path, append: Callable[[str, bytes], None], synced: list[str]) -> bool:
    """Whether the chain is on disk when the line counts as kept."""
    synced.clear()
    append(layout.CHAIN, b'{"body": "{}"}\n')
    return f"{state}/chain" in synced


def test_a_receipt_is_on_disk_before_it_is_sent(state: Path, synced: list[str]) -> None:
    assert _appended(state, segments.append, synced)


def test_without_its_call_it_is_not(state: Path, synced: list[str]) -> None:
    line = "os.fsync(descriptor)"
    assert not _appended(state, _without(segments, line).append, synced)
