"""The units that the executor writes for actions: their text is ours alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import machine
from safely import Safely
from serverflow_actions.kit import watch
from serverflow_actions.kit.host import HostError

POWERS = {"host_verbs": ["watch-unit"], "units": [], "accounts": False}


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    files = tuple((str(tmp_path / Path(path).name), text) for path, text in watch.FILES)
    monkeypatch.setattr(watch, "FILES", files)
    return [Path(path) for path, _ in files]


def test_the_watch_comes_and_goes_and_both_may_be_repeated(units: list[Path]) -> None:
    for _ in range(2):
        machine.set_watch_unit("present")
        assert [path.read_text() for path in units] == [text for _, text in watch.FILES]
        assert {path.stat().st_mode & 0o777 for path in units} == {0o644}
    units[0].unlink()
    for _ in range(2):
        machine.set_watch_unit("absent")
        assert not any(path.exists() for path in units)


@pytest.mark.parametrize("value", ["", "here", "/etc/passwd"])
def test_nothing_else_can_be_asked_of_them(units: list[Path], value: str) -> None:
    for ask in (machine.set_watch_unit, machine.set_firewall_unit):
        with pytest.raises(HostError, match="present or absent"):
            ask(value)
    assert not any(path.exists() for path in units)


@pytest.mark.parametrize("path", [path for path, _ in watch.FILES])
def test_without_the_power_a_safe_change_does_not_reach_them(path: str) -> None:
    job = {"about": {"op_id": "x"}, "action": "a.b", "key": "", "params": {}, "confirm_s": 60}
    without = Safely({**job, "manifest": {**POWERS, "host_verbs": ["firewall-unit"]}}, ["/etc/serverflow/cron"])
    with pytest.raises(HostError, match="not among what this action declares"):
        without.arm([path], [], [], [], False, [])
    # With it the files are covered, and what is refused is what comes next.
    with pytest.raises(HostError, match="nobody knows how to do sing"):
        Safely({**job, "manifest": POWERS}, []).arm([path], [], [], [watch.TIMER], False, ["sing"])
