"""Every case file of every action: see casefile.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from casefile import case_files, run_case, title

from serverflow_actions import registry


@pytest.mark.parametrize("path", case_files(), ids=title)
def test_case(path: Path) -> None:
    run_case(path)


def test_every_change_action_has_cases() -> None:
    covered = {title(path).split(":")[0] for path in case_files()}
    wanted = {name for name in registry.names() if registry.load(name).profile != "core"}
    assert wanted - covered == set()
