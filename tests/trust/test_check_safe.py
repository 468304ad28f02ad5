"""How long a safe change may wait for confirmation (remote/changes.py)."""

from __future__ import annotations

from typing import Any

import pytest

import changes
import messages

from .conftest import Fleet, encode

ON_WISH = {"kind": "change", "safe": "", "lifelines": ["unit", "ssh.*"]}


@pytest.mark.parametrize(
    ("unit", "confirm_s", "entry", "why"),
    [
        ("nginx", 0, ON_WISH, ""),
        ("nginx", 600, ON_WISH, ""),
        ("nginx", 601, ON_WISH, "600 s at most"),
        ("ssh", 3600, ON_WISH, ""),
        ("ssh", 0, ON_WISH, "could lock everyone out"),
        ("nginx", 3600, {**ON_WISH, "safe": "always"}, ""),
        ("nginx", 4, ON_WISH, "5 s at least"),
        ("nginx", 60, {**ON_WISH, "kind": "task"}, "one-off"),
    ],
)
def test_who_may_wait_for_how_long(fleet: Fleet, unit: str, confirm_s: int, entry: dict[str, Any], why: str) -> None:
    command = messages.parse_command(encode(fleet.command(params={"unit": unit}, confirm_s=confirm_s)))
    if not why:
        changes.check_safe(command, entry)
        return
    with pytest.raises(messages.Denied, match=why) as denied:
        changes.check_safe(command, entry)
    assert denied.value.code == "unsupported"
