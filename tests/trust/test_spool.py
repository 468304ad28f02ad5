"""The spool of alerts (remote/spool.py): its bounds, a full disk, damage, a clock that was set back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import layout
import spool
from serverflow_cli.model.ids import is_ulid, ulid_time_ms

from .notifier import NOW, event, state_in


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state_in(tmp_path, monkeypatch)
    return tmp_path


def add(now: float = NOW, channels: tuple[str, ...] = ("ops",), **changes: Any) -> str:
    letter_id = spool.new_id(now)
    with spool.lock():
        spool.add(event(id=letter_id, **changes), channels, int(now))
    return letter_id


def ids() -> list[str]:
    return [letter.id for letter in spool.letters()]


def sent(**changes: Any) -> dict[str, Any]:
    return {**spool.new_entry(NOW), "state": spool.SENT, **changes}


def no_disk() -> None:
    """Nothing can be written there any more; what is there can be read."""
    Path(layout.ALERTS).rename(f"{layout.ALERTS}.kept") if os.path.isdir(layout.ALERTS) else None
    Path(layout.ALERTS).write_text("")


def test_what_is_spooled_is_there_in_order_and_root_s_alone() -> None:
    found = [add(NOW + number) for number in range(3)]
    assert ids() == found
    assert os.stat(layout.ALERTS).st_mode & 0o777 == os.stat(f"{layout.ALERTS}/spool").st_mode & 0o777 == 0o700
    assert {os.stat(f"{layout.ALERTS}/spool/{name}.json").st_mode & 0o777 for name in found} == {0o600}
    letter = spool.letters()[0]
    assert letter.waits and letter.event == event(id=found[0])
    assert letter.to == {
        "ops": {
            "state": "waiting",
            "attempts": 0,
            "refused": 0,
            "unreachable": False,
            "next": NOW,
            "said": "",
            "left": [],
        }
    }


def test_a_letter_goes_once_every_channel_has_it() -> None:
    letter_id = add(channels=("ops", "dev"))
    spool.note(letter_id, "ops", sent())
    assert spool.letters()[0].to["ops"]["state"] == "sent"
    spool.note(letter_id, "dev", sent())
    assert ids() == []
    spool.note(letter_id, "dev", spool.new_entry(NOW))  # it does not come back
    assert ids() == []


def test_a_channel_is_forgotten() -> None:
    letter_id = add(channels=("ops", "dev"))
    spool.note(letter_id, "ops", None)
    assert list(spool.letters()[0].to) == ["dev"]
    spool.note(letter_id, "dev", None)
    assert ids() == []


def test_the_oldest_make_room_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "EVENTS_KEPT", 5)
    found = [add(NOW + number, key=f"k{number}") for number in range(8)]
    assert ids() == found[3:]
    assert spool.lost()["count"] == 3
    spool.note(found[6], "ops", sent(state=spool.GAVE_UP))
    add(NOW + 9)  # what waits no more goes before what waits
    assert found[6] not in ids() and found[3] in ids()
    assert spool.lost()["count"] == 3


def test_one_key_takes_its_share_and_pushes_out_no_other() -> None:
    other = add(key="cron.failed/other")
    found = [add(NOW + number) for number in range(3 * spool.SHARE)]
    assert ids() == [other, *found[-spool.SHARE :]]
    assert spool.lost()["count"] == 2 * spool.SHARE


def test_a_reminder_that_nobody_took_makes_room_for_a_newer_one() -> None:
    first, second = add(), add(count=2)
    add(count=3, channels=("ops", "dev"))
    assert len(ids()) == 3  # no attempt was made yet
    for letter in spool.letters():
        spool.note(letter.id, "ops", {**letter.to["ops"], "attempts": 1})
    fourth = add(count=4)
    assert second not in ids() and len(ids()) == 3  # the third is for another channel as well
    end, begin = add(count=4, state="resolved"), add(since="2027-01-15T09:00:00Z")
    assert ids()[0] == first and ids()[2:] == [fourth, end, begin]
    assert spool.lost()["count"] == 0


def test_bytes_are_bounded() -> None:
    for number in range(40):
        add(NOW + number, text="ü" * 30_000, key=f"k{number}")
    kept = [os.path.getsize(entry.path) for entry in os.scandir(f"{layout.ALERTS}/spool")]
    assert (900 << 10) < sum(kept) <= (1 << 20)
    assert spool.lost()["count"] == 40 - len(kept)


def test_ids_go_on_when_the_clock_is_set_back() -> None:
    found = [add(NOW), add(NOW), add(NOW - 86_400), add(0), add(NOW + 5)]
    assert found == sorted(found) == ids()
    assert all(map(is_ulid, found))
    assert ulid_time_ms(found[0]) == NOW * 1000


def test_a_full_disk_takes_none_but_memory_does() -> None:
    no_disk()
    letter_id = add(channels=("ops", "dev"))
    assert ids() == [letter_id]
    spool.note(letter_id, "ops", sent())
    assert spool.letters()[0].to["ops"]["state"] == "sent"
    spool.note(letter_id, "dev", sent())
    assert ids() == []


def test_what_is_in_memory_counts_until_the_disk_takes_it_again() -> None:
    with spool.lock():
        spool.remember("open", {"a": 1})
    no_disk()
    with spool.lock():
        spool.remember("open", {"a": 2})
    os.unlink(layout.ALERTS)
    os.rename(f"{layout.ALERTS}.kept", layout.ALERTS)
    assert spool.remembered("open") == {"a": 2}
    with spool.lock():
        spool.remember("open", {"a": 3})
    assert spool.remembered("open") == {"a": 3}
    assert not os.path.exists(f"{layout.ALERTS_IN_MEMORY}/open")


def test_neither_takes_it() -> None:
    no_disk()
    Path(layout.ALERTS_IN_MEMORY).mkdir()
    (Path(layout.ALERTS_IN_MEMORY) / "spool").write_text("")
    with pytest.raises(OSError):
        add()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 200_000, b'{"v":1}', b'{"v":1,"event":{},"spooled":1,"to":{}}'],
)
def test_a_damaged_letter_is_lost_and_no_other(data: bytes) -> None:
    first, second = add(), add()
    Path(f"{layout.ALERTS}/spool/{first}.json").write_bytes(data)
    assert ids() == [second]
    assert spool.lost()["count"] == 1
    assert os.listdir(f"{layout.ALERTS}/spool") == [f"{second}.json"]
    Path(f"{layout.ALERTS}/lost").write_bytes(data)
    assert spool.lost() == {"count": 0, "at": 0}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    path=st.sampled_from(["v", "event", "event/id", "event/key", "spooled", "to", "to/ops", "to/ops/next"]), value=JSON
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_letter_has_become_it_is_read_or_lost(path: str, value: Any) -> None:
    letter_id = add()
    file = Path(f"{layout.ALERTS}/spool/{letter_id}.json")
    whole = json.loads(file.read_bytes())
    inner = whole
    *parents, last = path.split("/")
    for name in parents:
        inner = inner[name]
    inner[last] = value
    file.write_text(json.dumps(whole))
    for letter in spool.letters():
        assert letter.id == letter.event["id"] and isinstance(letter.event["key"], str)
        assert all(type(entry["next"]) is int for entry in letter.to.values())
    spool.drop(letter_id)


def test_what_a_kill_left_and_what_was_given_up_long_ago_goes() -> None:
    waits, given_up = add(), add()
    spool.note(given_up, "ops", sent(state=spool.GAVE_UP))
    Path(f"{layout.ALERTS}/spool/.{waits}.json.0123456789ab").write_text("{")
    Path(f"{layout.ALERTS}/spool/README").write_text("")
    spool.tidy(NOW + 86_400)
    assert sorted(os.listdir(f"{layout.ALERTS}/spool")) == sorted(["README", f"{waits}.json", f"{given_up}.json"])
    spool.tidy(NOW + 8 * 86_400)
    assert ids() == [waits]
