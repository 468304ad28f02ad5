"""ACME Renewal Information: what an authority may answer, and what of it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import apart
import certari
from certari import Answer

NOW = 1_800_000_000  # 2027-01-15T08:00:00Z
NOT_AFTER = NOW + 30 * 86_400


def body(start: Any = "2027-01-20T00:00:00Z", end: Any = "2027-01-22T00:00:00Z", **more: Any) -> bytes:
    return json.dumps({"suggestedWindow": {"start": start, "end": end}, **more}).encode()


def test_the_identifier_of_the_rfcs_example() -> None:
    """RFC 9773, section 4.1; its serial number has a leading bit that is set."""
    key = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    assert certari.identifier(key, 0x87654321) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_a_window() -> None:
    found = certari.parse(body(explanationURL="https://example.com/why"), "21600", NOW, NOT_AFTER)
    assert found == Answer((1_800_403_200, 1_800_576_000), 21600, "https://example.com/why")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", NOW), ("2027-01-15T09:30:00+01:30", NOW), ("2027-01-15t08:00:00.123456789z", NOW),
        ("2027-01-15T08:00:00.5-00:00", NOW),
    ],
)  # fmt: skip
def test_moments(text: str, seconds: int) -> None:
    assert certari.moment(text) == seconds


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"<html>", b'{"suggestedWindow": null}', b'{"suggestedWindow": {}}', b"\xff",
        body(start=None), body(start=5), body(start="tomorrow"), body(start="2027-01-20"),
        body(end="2027-13-41T00:00:00Z"),
        body(start="2027-01-22T00:00:00Z"), body(start="2027-01-23T00:00:00Z"),
        body(start="2028-01-01T00:00:00Z", end="2028-01-02T00:00:00Z"), b"[" * 100_000,
    ],
)  # fmt: skip
def test_garbage_does_not_count(content: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        certari.parse(content, "", NOW, NOT_AFTER)


def test_a_window_in_the_past_means_now() -> None:
    start, end = certari.parse(body("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"), "", NOW, NOT_AFTER).window
    assert start < end < NOW


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), ("", 0), ("soon", 0), ("-5", 0), ("1e9", 0), ("99999999999999", 0),
     ("Fri, 15 Jan 2027 09:00:00 GMT", 3600), ("Fri, 15 Jan 2027 07:00:00 GMT", 0), ("١٢", 0)],
)  # fmt: skip
def test_retry_after(header: str, seconds: int) -> None:
    assert certari.seconds(header, NOW) == seconds


@given(st.binary(max_size=300), st.text(max_size=40))
def test_whatever_comes_is_an_answer_or_refused(content: bytes, header: str) -> None:
    try:
        found = certari.parse(content, header, NOW, NOT_AFTER)
    except (ValueError, RecursionError):
        return
    assert found.window[0] < found.window[1]


@pytest.mark.parametrize(
    "said",
    [None, 5, [], {}, {**Answer()._asdict(), "window": [1]}, {**Answer()._asdict(), "window": ["1", "2"]},
     {**Answer()._asdict(), "window": [5, 4]}, {**Answer()._asdict(), "window": [NOT_AFTER, NOT_AFTER + 5]},
     {**Answer()._asdict(), "retry_after": "x"}, {**Answer()._asdict(), "offered": 1}],
)  # fmt: skip
def test_the_process_that_met_the_authority_may_be_a_stranger(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "perform", lambda work, seconds: said)
    found = certari.ask("https://ca.example/dir", "a.b", NOW, NOT_AFTER)
    assert found.window == (0, 0) and found.said


def test_no_answer_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apart, "perform", lambda work, seconds: work())
    found = certari.ask("https://127.0.0.1:1/dir", "a.b", NOW, NOT_AFTER)
    assert found.said == "no answer: Connection refused" and found.offered
    (tmp_path / "dir").write_text("{}")
    assert "makes no sense" in certari.ask(f"file://{tmp_path}/dir", "a.b", NOW, NOT_AFTER).said
