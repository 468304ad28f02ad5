"""How the spool is emptied (remote/deliver.py): attempts, order, what is given up, crashes, two at once."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alerts
import channels
import deliver
import layout
import spool
from said import FAILED, REFUSED, SENT, UNANSWERED, UNREACHABLE, Said

from .notifier import NOW, SECRET, Web, event, put_channel, put_webhook, send, serving, state_in

HOUR, DAY = 3600, 86_400


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        put_webhook("ops", found.port)
        yield found


@pytest.fixture
def closed() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def add(now: float = NOW, to: tuple[str, ...] = ("ops",), **changes: Any) -> str:
    letter_id = spool.new_id(now)
    with spool.lock():
        spool.add(event(id=letter_id, **changes), to, int(now))
    return letter_id


def due(now: float = NOW) -> int | None:
    return deliver.send_due(send, lambda: now)


def entry(name: str = "ops", number: int = 0) -> dict[str, Any]:
    return spool.letters()[number].to[name]


# --- attempts --------------------------------------------------------------------------------------------------------


def test_what_waits_is_sent_once(web: Web) -> None:
    found = [add(key=f"k{number}") for number in range(3)]
    assert due() is None
    assert web.ids == found
    assert spool.letters() == [] and due() is None and len(web.asked) == 3
    shown = deliver.status()["channels"][0]
    assert (shown["sent"], shown["failed"], shown["said"]) == (NOW, 0, "it answered 200")


def test_nobody_there_then_somebody(web: Web, closed: int) -> None:
    """The network is away when it happens, and back later."""
    put_webhook("ops", closed)
    letter_id = add()
    assert due() == 30
    assert due(NOW + 30) == 60
    assert due(NOW + 60) == 30  # too early
    assert entry()["attempts"] == 2 and entry()["said"] == "Connection refused"
    put_webhook("ops", web.port)
    assert due(NOW + 90) is None
    assert web.ids == [letter_id] and spool.letters() == []


def test_attempts_come_later_and_later_for_three_days(closed: int) -> None:
    put_webhook("ops", closed)
    add()
    now, waits = NOW, []
    while (wait := due(now)) is not None:
        waits.append(wait)
        now += wait
    assert waits[:8] == [30, 60, 120, 240, 480, 960, 1920, 3600] and set(waits[7:]) == {3600}
    assert 3 * DAY <= now - NOW <= 3 * DAY + HOUR
    assert entry()["state"] == "gave-up"
    assert deliver.status()["channels"][0]["gave_up"] == 1


def test_what_is_refused_is_tried_three_times_more(web: Web) -> None:
    web.status, web.answer = 404, b"no_service"
    add()
    now = NOW
    while (wait := due(now)) is not None:
        now += wait
    assert len(web.asked) == 4
    assert entry()["state"] == "gave-up" and entry()["said"] == "it answered 404, no_service"


def test_a_mail_without_an_answer_may_have_been_taken_and_goes_out_four_times_at_most(web: Web) -> None:
    """And nothing else of its channel waits for it."""
    add(key="a")
    other = add(key="b")
    copies = []

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        if told["key"] == "b":
            return send(name, told, left)
        copies.append(told["id"])
        # Also when the server is not there at all for a while.
        return Said(UNREACHABLE, "away") if len(copies) == 2 else Said(UNANSWERED, "it did not answer")

    now = NOW
    while (wait := deliver.send_due(carry, lambda: now)) is not None:  # noqa: B023  (called at once)
        now += wait
    assert web.ids == [other]
    assert len(copies) == 5 and entry()["state"] == "gave-up"
    assert now - NOW < HOUR


def test_a_letter_at_which_the_server_hangs_up_stands_before_no_other_for_good(web: Web) -> None:
    hopeless = add(key="a")
    others = [add(key=f"k{number}") for number in range(3)]

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        return Said(UNREACHABLE, "it hung up") if told["id"] == hopeless else send(name, told, left)

    assert deliver.send_due(carry, lambda: NOW) == 30
    assert web.ids == []
    deliver.send_due(carry, lambda: NOW + 30)
    assert sorted(web.ids) == others
    assert entry()["state"] == "waiting"


def test_after_days_without_power_there_are_still_attempts(closed: int, web: Web) -> None:
    put_webhook("ops", closed)
    add()
    due()
    assert due(NOW + 10 * DAY) == 60  # and at 1970, before the clock is set
    assert entry()["state"] == "waiting"


def test_it_waits_as_long_as_it_is_asked_to(web: Web) -> None:
    web.status, web.headers = 429, {"Retry-After": "600"}
    add()
    assert due() == 600


def test_the_clock_is_set_back(web: Web, closed: int) -> None:
    put_webhook("ops", closed)
    letter_id = add(NOW + 3650 * DAY)
    assert due(NOW + 3650 * DAY) == 30
    put_webhook("ops", web.port)
    assert due(NOW) is None
    assert web.ids == [letter_id]


ENTRIES = st.builds(
    lambda **fields: {"state": "waiting", "unreachable": False, "said": "", **fields},
    left=st.just(["a@example.com"]), attempts=st.integers(-5, 10**9), refused=st.integers(0, 10), next=st.integers(),
)  # fmt: skip


@given(
    ENTRIES,
    st.sampled_from([SENT, REFUSED, FAILED, UNREACHABLE, UNANSWERED]),
    st.integers(-(10**6), 10**7),
    st.integers(-(10**9), 10**9),
)
def test_an_attempt_leads_to_an_end_or_to_another_within_the_hour(
    before: dict[str, Any], verdict: str, wait: int, age: int
) -> None:
    after = deliver.settled(before, Said(verdict, "x" * 1000, wait), NOW, age)
    assert after["attempts"] == before["attempts"] + 1 and len(after["said"]) <= 300
    assert (after["state"] == "sent") == (verdict == SENT)
    assert NOW + 30 <= after["next"] <= NOW + HOUR
    assert after["left"] == before["left"]


# --- several ---------------------------------------------------------------------------------------------------------


def test_no_answer_to_one_is_none_to_all_of_that_channel(web: Web, closed: int) -> None:
    put_webhook("dead", closed)
    asked = []

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        asked.append(name)
        return send(name, told)

    for number in range(5):
        add(to=("dead", "ops"), key=f"k{number}")
    assert deliver.send_due(carry, lambda: NOW) == 30
    assert sorted(asked) == ["dead"] + ["ops"] * 5
    assert [letter.to["dead"]["attempts"] for letter in spool.letters()] == [1] * 5


def test_a_channel_that_fails_slowly_costs_the_others_one_attempt(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers 500 after 40 seconds, to each."""
    put_webhook("slow", web.port)
    passed, order = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        order.append(name)
        passed[0] += 40 if name == "slow" else 0.1
        if order.count("slow") == 3 and name == "slow":
            add(to=("slow", "ops"), key="late")
        return Said(FAILED, "it answered 500") if name == "slow" else send(name, told, left)

    for number in range(40):
        add(to=("slow", "ops"), key=f"k{number}")
    deliver.send_due(carry, lambda: NOW)
    assert order[:44] == ["ops", "slow", *["ops"] * 39, "slow", "slow", "ops"]
    assert passed[0] < 1200 + 41 + 40 * 0.1
    order.clear()
    add(to=("slow", "ops"), key="next")
    deliver.send_due(carry, lambda: NOW)
    assert order[0] == "ops"  # and the next run has learnt of it


def test_channels_take_turns(web: Web) -> None:
    put_webhook("dev", web.port)
    order = []

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        order.append(name)
        return send(name, told, left)

    for number in range(3):
        add(to=("ops",), key=f"k{number}")
    add(to=("dev",), key="d")
    assert deliver.send_due(carry, lambda: NOW) is None
    assert order == ["ops", "dev", "ops", "ops"]


def test_a_letter_that_cannot_be_handled_stops_no_other_and_no_timer(
    state: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    bad, good = add(key="a"), add(key="b")

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        if told["id"] == bad:
            raise TypeError("the secret")
        return send(name, told, left)

    deliver.run(carry)
    assert web.ids == [good]
    assert (entry()["attempts"], entry()["said"]) == (1, "it could not be sent (TypeError)")
    assert "--on-active=30" in (state / "asked").read_text()


def test_a_timer_is_set_whatever_happens(state: Path) -> None:
    add()
    Path(layout.NOTIFY).write_text("")
    deliver.run(send)
    assert "--on-active=3600" in (state / "asked").read_text()


def test_who_was_put_off_is_kept_until_it_is_sent(web: Web) -> None:
    add()
    asked = []

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        asked.append(list(left))
        answers = [Said(FAILED, "later", 0, ("a@example.com",)), Said(UNREACHABLE, "away"), Said(SENT, "taken")]
        return answers[len(asked) - 1]

    for now in (NOW, NOW + 30, NOW + 90):
        deliver.send_due(carry, lambda now=now: now)  # type: ignore[misc]
    assert asked == [[], ["a@example.com"], ["a@example.com"]]
    assert spool.letters() == []


#: Prints what was opened below the channels' folder while letters were sent, and by whom.
OPENED = """
import sys
sys.path[:0] = sys.argv[1:3]
import deliver, layout, spool, said
layout.NOTIFY, layout.ALERTS, layout.ALERTS_IN_MEMORY = sys.argv[3:6]
opened = []
sys.addaudithook(lambda name, args: opened.append(args[0]) if name == "open" else None)
deliver.send_due(lambda name, told, left: said.Said(said.SENT, "taken"))
print([path for path in opened if str(path).startswith(layout.NOTIFY)], spool.letters())
"""


def test_whoever_forks_the_sender_has_read_no_secret(web: Web) -> None:
    add()
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-IS", "-c", OPENED, str(root / "remote"), str(root / "src")]
    folders = [layout.NOTIFY, layout.ALERTS, layout.ALERTS_IN_MEMORY]
    done = subprocess.run([*argv, *folders], capture_output=True, check=True, text=True)
    assert done.stdout == "[] []\n"


def test_an_answer_to_one_wakes_the_others(web: Web, closed: int) -> None:
    put_webhook("ops", closed)
    first, second = add(key="a"), add(key="b")
    for now in (NOW, NOW + 30, NOW + 90, NOW + 210):
        due(now)
    put_webhook("ops", web.port)
    third = add(key="c")
    assert due(NOW + 211) is None
    assert sorted(web.ids) == [first, second, third] and web.ids[0] == third


def test_the_end_of_something_never_comes_before_its_beginning(web: Web) -> None:
    begin, end, other = add(key="a"), add(key="a", state="resolved"), add(key="b")
    web.status = 500
    due()
    web.status = 200
    assert due(NOW + 1) == 29
    assert web.ids == [begin, other]
    assert due(NOW + 30) is None
    assert web.ids[2:] == [other, begin, end] or web.ids[2:] == [begin, other, end]


def test_a_letter_that_is_never_taken_holds_up_its_own_key_alone(web: Web) -> None:
    web.status = 500
    add(key="a")
    due()
    web.status = 200
    assert due(NOW + 1) == 29
    found = add(key="b")
    assert due(NOW + 2) == 28
    assert web.ids[1:] == [found]


def test_a_channel_that_is_removed_is_waited_for_no_more(web: Web, closed: int) -> None:
    put_webhook("gone", closed)
    add(to=("gone", "ops"))
    add(to=("gone",), key="b")
    assert due() == 30
    os.unlink(f"{layout.NOTIFY}/gone.json")
    assert due() is None
    assert spool.letters() == [] and len(web.asked) == 1


def test_a_channel_that_is_damaged_is_waited_for(web: Web) -> None:
    add()
    whole = Path(layout.NOTIFY, "ops.json").read_bytes()
    Path(layout.NOTIFY, "ops.json").write_bytes(whole[:50])
    assert due() == 30
    assert entry()["said"] == "its settings are damaged: not JSON in UTF-8"
    Path(layout.NOTIFY, "ops.json").write_bytes(whole)
    assert due(NOW + 30) is None and len(web.asked) == 1


def test_a_folder_that_cannot_be_read_does_not_count_as_empty(web: Web) -> None:
    add()
    os.rename(layout.NOTIFY, f"{layout.NOTIFY}.kept")
    Path(layout.NOTIFY).write_text("")
    with pytest.raises(OSError):
        due()
    assert len(spool.letters()) == 1


# --- crashes, full disks, two at once --------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_killed_between_sending_and_noting_it_goes_out_again_with_the_same_id(web: Web) -> None:
    letter_id = add()

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        send(name, told)
        raise Killed

    with pytest.raises(Killed):
        deliver.send_due(carry, lambda: NOW)
    assert due(NOW + 300) is None
    assert web.ids == [letter_id] * 2
    assert web.asked[0][2] == web.asked[1][2]


def test_on_a_full_disk_each_is_sent_once(web: Web, closed: int) -> None:
    put_webhook("dead", closed)
    add(to=("ops", "dead"))
    os.rename(layout.ALERTS, f"{layout.ALERTS}.kept")
    os.makedirs(layout.ALERTS_IN_MEMORY, exist_ok=True)
    os.rename(f"{layout.ALERTS}.kept/spool", f"{layout.ALERTS_IN_MEMORY}/spool")
    Path(layout.ALERTS).write_text("")
    add(key="b")
    assert due() == 30
    assert due(NOW + 30) == 60
    assert len(web.asked) == 2


def test_where_nothing_can_be_noted_it_does_not_send_again_and_again(web: Web, closed: int, monkeypatch: Any) -> None:
    put_webhook("dead", closed)
    add(to=("dead", "ops"))
    lock = os.open(f"{layout.ALERTS_IN_MEMORY}/lock", os.O_RDWR)
    monkeypatch.setattr(spool, "_LOCK_WAIT_S", 0)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert due() == HOUR
    os.close(lock)
    assert len(web.asked) <= 1


def test_running_twice_sends_once(web: Web) -> None:
    """One works, one waits for it, and a third need not."""
    at_work, go_on = threading.Event(), threading.Event()

    def carry(name: str, told: Mapping[str, Any], left: Sequence[str]) -> Said:
        at_work.set()
        go_on.wait(30)
        return send(name, told)

    first = add(key="a")
    worker, *others = (threading.Thread(target=deliver.run, args=(carry,)) for _ in range(3))
    worker.start()
    assert at_work.wait(30)
    for thread in others:
        thread.start()
    while all(thread.is_alive() for thread in others):
        others[0].join(0.01)
    assert [thread.is_alive() for thread in others].count(True) == 1
    second = add(key="b")
    go_on.set()
    for thread in (worker, *others):
        thread.join(30)
    assert web.ids == [first, second]


def test_a_timer_is_set_for_what_waits_in_the_place_of_the_one_before(state: Path) -> None:
    os.mkdir(layout.ALERTS_IN_MEMORY)
    deliver._arrange(30)
    deliver._arrange(60)
    deliver._arrange(None)
    lines = (state / "asked").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["systemd-run", "systemctl", "systemd-run", "systemctl"]
    first, second = (next(word for word in lines[n].split() if word.startswith("--unit="))[7:] for n in (0, 2))
    assert "--on-active=30" in lines[0] and "--on-active=60" in lines[2]
    assert lines[1].endswith(f"stop --quiet -- {first}.timer") and lines[3].endswith(f"{second}.timer")
    assert lines[0].endswith(f"-- {layout.RUNNER} deliver")


# --- for operators ---------------------------------------------------------------------------------------------------


def test_a_test_goes_out_at_once_past_rules_and_spool(web: Web) -> None:
    put_webhook("ops", web.port, rules=("safe.* critical",))
    told = deliver.test("ops", send)
    assert told == {"channel": "ops", "id": web.ids[0], "sent": True, "verdict": "sent", "said": "it answered 200"}
    assert spool.letters() == []
    web.status, web.answer = 500, b""
    assert deliver.test("ops", send)["said"] == "it answered 500"
    with pytest.raises(KeyError):
        deliver.test("no-such", send)


def test_status_has_no_secret(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    put_channel("ops", "webhook", {"url": f"http://127.0.0.1:{closed}/sesame", "secret": SECRET})
    put_channel("bad", "slack", {"url": "sesame"})
    alerts.emit("cron.failed", "cron.failed/report", "Cron job report failed", "text")
    due()
    told = deliver.status()
    assert SECRET not in repr(told) and "sesame" not in repr(told)
    assert [(one["name"], one["waiting"], one["next"]) for one in told["channels"]] == [
        ("bad", 0, 0),
        ("ops", 1, NOW + 30),
    ]
    assert told["channels"][0]["problem"] == "url must be an https URL"
    assert told["spool"][0]["to"] == {
        "ops": {"state": "waiting", "attempts": 1, "next": NOW + 30, "said": "Connection refused"}
    }
    assert told["open"] == [
        {"key": "cron.failed/report", "kind": "cron.failed", "severity": "error", "since": NOW, "seen": NOW, "count": 1,
         "last_sent": NOW}
    ]  # fmt: skip
    assert told["lost"] == {"count": 0, "at": 0} and told["spooled"] == 1


def test_nothing_at_all() -> None:
    assert due() is None
    assert deliver.status() == {"channels": [], "spool": [], "spooled": 0, "lost": {"count": 0, "at": 0}, "open": []}
    assert channels.shown() == []
