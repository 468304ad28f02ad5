"""What is told, and how often (remote/alerts.py)."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alerts
import layout
import spool
import store
import wording

from .notifier import NOW, put_webhook, state_in

DAY = 86_400
KEY = "cron.failed/report"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock."""

    def clock(now: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now)

    clock(NOW)
    return clock


def fail(**changes: Any) -> None:
    alerts.emit(**{"kind": "cron.failed", "key": KEY, "title": "Cron job report failed", **changes})


def told() -> list[tuple[str, str, int, list[str]]]:
    """State, time since, count and channels of what is spooled."""
    return [(one.event["state"], one.event["since"], one.event["count"], sorted(one.to)) for one in spool.letters()]


def started(state: Path) -> int:
    return (state / "asked").read_text().count("systemd-run") if (state / "asked").exists() else 0


# --- weighing --------------------------------------------------------------------------------------------------------


def test_the_first_is_told_then_one_a_day_then_the_end(state: Path, at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    for hours in range(50):
        at(NOW + hours * 3600)
        fail()
    at(NOW + 50 * 3600)
    fail(state="resolved", title="Cron job report works again")
    fail(state="resolved")
    since = "2027-01-15T08:00:00Z"
    assert told() == [
        ("open", since, 1, ["ops"]),
        ("open", since, 23, ["ops"]),
        ("open", since, 45, ["ops"]),
        ("resolved", since, 50, ["ops"]),
    ]
    assert started(state) == 4
    at(NOW + 51 * 3600)
    fail()
    assert told()[-1] == ("open", "2027-01-17T11:00:00Z", 1, ["ops"])


def test_a_nightly_job_that_fails_sooner_each_night_is_told_each_night(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    for night in range(5):
        at(NOW + night * (DAY - 2) - (3600 if night > 2 else 0))  # and summer time begins
        fail()
    assert [count for _, _, count, _ in told()] == [1, 2, 3, 4, 5]


def test_what_is_seen_again_and_again_is_one_thing(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    for look in range(2 * 288):
        at(NOW + look * 300)
        fail(seen_again=True)
    assert [(state, count) for state, _, count, _ in told()] == [("open", 1)] * 3
    fail()
    assert alerts.open_keys()[KEY]["count"] == 2


def test_keys_do_not_mix(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    fail()
    fail(key="cron.failed/other")
    fail(key="cron.failed/other", state="resolved")
    assert [(one.event["key"], one.event["state"]) for one in spool.letters()] == [
        (KEY, "open"),
        ("cron.failed/other", "open"),
        ("cron.failed/other", "resolved"),
    ]


def test_what_nobody_was_told_of_is_not_told_to_be_over(at: Callable[[float], None]) -> None:
    fail()
    put_webhook("ops", 1)
    fail(state="resolved")
    assert told() == []
    fail()
    assert [state for state, *_ in told()] == ["open"]


def test_a_channel_that_comes_later_hears_of_what_goes_on(at: Callable[[float], None]) -> None:
    fail()
    put_webhook("ops", 1)
    at(NOW + 60)
    fail()
    assert told() == [("open", "2027-01-15T08:00:00Z", 2, ["ops"])]


def test_the_end_goes_to_whoever_heard_of_the_beginning(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    put_webhook("gone", 1)
    fail()
    put_webhook("ops", 1, rules=("safe.* critical",))
    put_webhook("new", 1)
    os.unlink(f"{layout.NOTIFY}/gone.json")
    fail(state="resolved")
    assert [channels for *_, channels in told()] == [["gone", "ops"], ["ops"]]


def test_what_gets_graver_is_told_at_once_and_only_once(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1, rules=("* warning",))
    for severity in ("warning", "warning", "error", "warning", "error", "critical"):
        fail(severity=severity)
    assert [letter.event["severity"] for letter in spool.letters()] == ["warning", "error", "critical"]


def test_an_event_that_comes_again_within_a_day_is_counted(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    for hours in (0, 1, 24.5, 26, 60):
        at(NOW + hours * 3600)
        fail(state="event")
    assert [count for _, _, count, _ in told()] == [1, 3, 1]
    fail(state="resolved")
    assert len(told()) == 3


def test_rules_choose(at: Callable[[float], None]) -> None:
    put_webhook("all", 1, rules=("* info",))
    put_webhook("cron", 1, rules=("cron.*",))
    put_webhook("none", 1, rules=("safe.*", "no.such_kind", "nonsense nonsense", ""))
    fail()
    fail(kind="cron.skipped", key="b", severity="warning")
    assert [channels for *_, channels in told()] == [["all", "cron"], ["all"]]


def test_the_clock_is_set_back(at: Callable[[float], None]) -> None:
    """What was told in a time that is yet to come does not silence anything for years."""
    put_webhook("ops", 1)
    at(NOW + 3650 * DAY)
    fail()
    fail(state="event", key="b")
    at(NOW)
    fail()
    fail(state="event", key="b")
    assert len(told()) == 4
    fail()
    assert len(told()) == 4


ENTRY = st.none() | st.builds(
    lambda **fields: {"kind": "cron.failed", "to": [], **fields},
    state=st.sampled_from(["open", "event", "resolved"]),
    severity=st.sampled_from(["info", "error"]),
    peak=st.sampled_from(["info", "error"]),
    day=st.integers(0, 3 * DAY),
    openings=st.integers(1, 9),
    left=st.integers(0, 3),
    muted=st.booleans(),
    since=st.integers(0, 10),
    seen=st.integers(0, 3 * DAY),
    count=st.integers(1, 9),
    last_sent=st.integers(0, 3 * DAY),
)


@given(
    ENTRY, st.sampled_from(["open", "resolved", "event"]), st.sampled_from(["info", "error"]), st.integers(0, 3 * DAY)
)
def test_weighing_is_silent_only_about_what_was_told(
    found: dict[str, Any] | None, state: str, severity: str, now: int
) -> None:
    if state == "resolved" and (not found or found["state"] != "open"):
        return
    entry, tell = alerts.weigh(found, "cron.failed", state, severity, now)
    assert entry["state"] == state and entry["seen"] == now
    assert tell or found is not None
    if state == "resolved":
        assert found is not None and tell == bool(found["last_sent"])
    elif not tell:
        assert found is not None and (found["since"] == entry["since"] or entry["muted"])
        assert not entry["muted"] or severity == "info" or found["peak"] == "error"


def flap(at: Callable[[float], None], runs: int, begin: float = NOW, every: int = 60) -> None:
    """A job of which every other run fails."""
    for run in range(runs):
        at(begin + run * every)
        fail(text="Traceback") if run % 2 == 0 else fail(state="resolved")


def sent_since(letters: list[spool.Letter]) -> list[tuple[str, int]]:
    return [(one.event["state"], one.event["count"]) for one in letters]


def test_what_comes_and_goes_is_told_three_times_then_once_a_day_how_often(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    flap(at, 3 * 144, every=600)
    letters = spool.letters()
    assert sent_since(letters) == [("open", 1), ("resolved", 1)] * 5
    texts = [letter.event["text"] for letter in letters if letter.event["state"] == "open"]
    often = "This has come and gone: {} times since 2027-01-{}T08:00:00Z. As long as it does so it is told once a day."
    assert texts == [
        "Traceback",
        "Traceback",
        often.format(3, 15) + "\n\nTraceback",
        often.format(72, 15) + "\n\nTraceback",
        often.format(72, 16) + "\n\nTraceback",
    ]
    assert [letter.event["at"][8:10] for letter in letters[-4:]] == ["16", "16", "17", "17"]


def test_it_stays_and_is_told_within_the_hour(at: Callable[[float], None]) -> None:
    """After all that coming and going nobody may believe that it works."""
    put_webhook("ops", 1)
    flap(at, 60)
    before = len(told())
    for minute in range(60, 300):
        at(NOW + minute * 60)
        fail()
    assert told()[before:] == [("open", "2027-01-15T09:00:00Z", 61, ["ops"])]
    fail(state="resolved")
    flap(at, 60, NOW + 300 * 60)
    assert [state for state, *_ in told()[before:]] == ["open", "resolved"]


def test_the_end_of_what_was_not_told_is_not_told(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    flap(at, 6)
    fail()
    put_webhook("dev", 1)
    fail(state="resolved")
    assert len(told()) == 6


def test_what_gets_graver_is_told_however_often_it_came(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    flap(at, 10)
    fail(severity="critical")
    fail(state="resolved")
    fail(severity="critical")
    assert sent_since(spool.letters()[6:]) == [("open", 1), ("resolved", 1)]


def test_after_a_quiet_day_it_is_told_as_before(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    flap(at, 20)
    flap(at, 20, NOW + 2 * DAY)
    letters = spool.letters()
    assert len(letters) == 12 and letters[6].event["text"] == "Traceback"
    at(NOW + 5 * DAY)
    fail(key="b")
    assert list(alerts.open_keys()) == ["b"]


# --- the event -------------------------------------------------------------------------------------------------------


def test_an_event_has_every_field(at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "web1.example.com")
    put_webhook("ops", 1)
    fail(text="line\nline", data={"exit": 1, "argv": ["a", "b"], "ok": False})
    found = spool.letters()[0].event
    assert found.pop("id") == spool.letters()[0].id
    assert found == {
        "v": 1, "kind": "cron.failed", "severity": "error", "state": "open", "key": KEY, "server": "",
        "server_id": "5e" * 32, "hostname": "web1.example.com", "at": "2027-01-15T08:00:00Z",
        "since": "2027-01-15T08:00:00Z", "count": 1, "title": "Cron job report failed", "text": "line\nline",
        "data": {"exit": 1, "argv": ["a", "b"], "ok": False},
    }  # fmt: skip


def test_giants_are_cut(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    fail(title="t" * 10**6, key="k" * 10**6, text="a" + "\x1b" * 10**6 + "z", data={"out": "o" * 10**6})
    fail(key="b", text="ü" * 10**6, data={str(number): "x" * 100 for number in range(100)})
    first, second = (letter.event for letter in spool.letters())
    assert len(first["title"]) == len(first["key"]) == 200
    assert len(first["text"]) <= 4000 and first["text"].startswith("a?") and first["text"].endswith("?z")
    assert "characters or more are left out" in first["text"]
    assert len(first["data"]["out"]) <= 500
    assert list(second["data"]) == ["left_out"]
    assert max(os.path.getsize(entry.path) for entry in os.scandir(f"{layout.ALERTS}/spool")) < 20_000


@given(
    st.text(), st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.floats() | st.binary(), max_size=3)
)
def test_whatever_is_in_an_event_it_is_json_without_control_characters(title: str, text: str, data: Any) -> None:
    line = wording.line(title)
    assert line.isprintable() and len(line) <= 200
    assert all(part.isprintable() for part in wording.text(text).replace("\t", "").split("\n"))
    kept = alerts.small(data)
    assert json.loads(store.encode(kept).decode()) == kept


# --- it never raises -------------------------------------------------------------------------------------------------


def test_a_full_disk(state: Path, at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    Path(layout.ALERTS).write_text("")
    fail()
    fail()
    assert len(told()) == 1 and started(state) == 1
    fail(state="resolved")
    assert [state for state, *_ in told()] == ["open", "resolved"]


def test_a_lock_that_never_comes_free_keeps_nothing_from_being_told(
    state: Path, at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_webhook("ops", 1)
    fail(key="known")
    monkeypatch.setattr(spool, "_LOCK_WAIT_S", 0)
    lock = spool.in_memory("lock")
    fcntl.flock(lock, fcntl.LOCK_EX)
    fail()
    assert len(told()) == started(state) == 2
    assert list(alerts.open_keys()) == ["known"]  # that is another's to write
    fail(key="known", state="resolved")
    assert told()[-1][0] == "resolved"
    os.close(lock)
    fail()
    fail()
    assert [state for state, *_ in told()] == ["open", "open", "resolved", "open"]
    assert spool.lost()["count"] == 0


def test_whoever_waits_for_the_lock_waits_for_all_jobs_of_a_slow_disk() -> None:
    fsyncs, seconds = 40 * 4, 0.1
    assert 2 * fsyncs * seconds < spool._LOCK_WAIT_S


def test_what_is_lost_is_counted(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    Path(layout.ALERTS).write_text("")
    Path(layout.ALERTS_IN_MEMORY).mkdir()
    Path(layout.ALERTS_IN_MEMORY, "spool").write_text("")
    fail()
    assert told() == []
    assert spool.lost() == {"count": 1, "at": NOW}


def test_nothing_can_be_written(state: Path, at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    Path(layout.ALERTS).write_text("")
    Path(layout.ALERTS_IN_MEMORY).write_text("")
    fail()
    fail(state="resolved")
    assert started(state) == 0


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"%s": {}}' % KEY.encode(), b'{"%s": 3}' % KEY.encode()])
def test_what_is_remembered_is_damaged(at: Callable[[float], None], data: bytes) -> None:
    put_webhook("ops", 1)
    Path(layout.ALERTS).mkdir()
    Path(layout.ALERTS, "open").write_bytes(data)
    fail()
    fail()
    assert len(told()) == 1


def test_callers_that_are_wrong(at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    alerts.emit("no.such", "\ud800\n", None, data={"a": object()})  # type: ignore[arg-type]
    alerts.emit("cron.failed", "a", "b", state="nonsense", severity="nonsense")
    alerts.emit("cron.failed", "\ud800\n", "\ud800\n", "\ud800", {"\ud800": "\ud800"})
    assert [letter.event["title"] for letter in spool.letters()][-1] == "?"


def test_without_systemd_it_waits(state: Path, at: Callable[[float], None]) -> None:
    put_webhook("ops", 1)
    os.unlink(state / "bin" / "systemd-run")
    fail()
    assert len(told()) == 1


def test_the_notifier_is_started_again_while_something_waits(state: Path, at: Callable[[float], None]) -> None:
    alerts.resume()
    assert started(state) == 0
    put_webhook("ops", 1)
    fail()
    alerts.resume()
    assert started(state) == 2
    fail(state="resolved")
    assert started(state) == 3
    letter = spool.letters()[0]
    spool.note(letter.id, "ops", {**letter.to["ops"], "next": NOW + 30})
    alerts.resume()  # a timer is set for the first, and the second has to wait for it
    assert started(state) == 3
    at(NOW + 30)
    alerts.resume()
    assert started(state) == 4
    for letter in spool.letters():
        spool.note(letter.id, "ops", {**letter.to["ops"], "state": spool.GAVE_UP})
    alerts.resume()
    assert started(state) == 4 and len(spool.letters()) == 2


def test_keys_are_bounded(at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "KEYS_KEPT", 5)
    for number in range(8):
        at(NOW + number)
        fail(key=f"k{number}")
    assert sorted(alerts.open_keys()) == [f"k{number}" for number in range(3, 8)]
