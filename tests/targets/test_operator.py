"""The fixtures that other target tests stand on."""

from __future__ import annotations

from .operator import Operator


def test_a_read_comes_back_verified(operator: Operator) -> None:
    answer = operator.json("system", "info", "--on", "web1")
    assert answer["ok"]
    assert answer["servers"][0]["data"]["os"].startswith("Debian GNU/Linux 12")
