"""Values as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from serverflow_cli.ui.units import duration, humane, share, size, time


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1288490189, "1.2 GiB"), (5 << 50, "5120.0 TiB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("used", "total", "shown"),
    [(3 << 30, 8 << 30, "3.0 of 8.0 GiB"), (512 << 20, 8 << 30, "512.0 MiB of 8.0 GiB"), (0, 0, "0 of 0 B")],
)
def test_shares(used: int, total: int, shown: str) -> None:
    assert share(used, total) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (302, "5m 2s"), (3600, "1h"), (277200, "3d 5h"), (86401, "1d"), (-5, "-5s")],
)
def test_durations(seconds: int, shown: str) -> None:
    assert duration(seconds) == shown


def test_times_are_utc_for_programs_and_local_with_offset_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    import time as clock

    monkeypatch.setenv("TZ", "Europe/Paris")
    clock.tzset()
    try:
        assert time(1763828703000, local=False) == "2025-11-22T16:25:03Z"
        assert time(1763828703000, local=True) == "2025-11-22 17:25:03 +01:00"
        assert time("2025-11-22T16:25:03Z", local=True) == "2025-11-22 17:25:03 +01:00"
        assert time("not a time", local=True) == "not a time"
        assert time(10**20, local=True) == str(10**20)
    finally:
        monkeypatch.undo()
        clock.tzset()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("enabled", True, "yes"), ("enabled", False, "no"), ("note", None, "-"), ("note", "", "-"), ("names", [], "-"),
        ("names", ["a", "b"], "a, b"), ("uptime_s", 61, "1m 1s"), ("memory_used", 2048, "2.0 KiB"), ("cpus", 4, "4"),
        ("started_at", 1000, "1970-01-01T00:00:01Z"), ("since", 0, "-"), ("owner", {"uid": 0}, "uid=0"), ("s", 5, "5"),
        ("next", 1900608551000, "2030-03-24T18:49:11Z"), ("not_after", 1953197350000, "2031-11-23T10:49:10Z"),
        ("not_before", 1795431000000, "2026-11-23T10:50:00Z"), ("window", [0, 0], "-, -"), ("next", 0, "-"),
        ("upcoming", [1900608551000], "2030-03-24T18:49:11Z"), ("due", True, "yes"),
        # The page of dns.fetch, a key, how a safe change ended, a moment that is told already.
        ("next", 500, "500"), ("next", "ssh-ed25519 AAAA", "ssh-ed25519 AAAA"), ("ended", "confirmed", "confirmed"),
        ("next", "2030-03-24 19:49:11 +01:00", "2030-03-24 19:49:11 +01:00"), ("late_after", 300, "300"),
    ],
)  # fmt: skip
def test_a_fields_name_says_its_unit(field: str, value: Any, shown: str) -> None:
    assert humane(field, value, local=False) == shown
