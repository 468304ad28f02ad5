"""JSON that has one meaning whoever reads it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strict

LIMIT = 64 * 1024


def nested(depth: int, inner: str = "1") -> bytes:
    return ('{"a":' + "[" * (depth - 1) + inner + "]" * (depth - 1) + "}").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1",
        b"[]",
        b"null",
        b'"a"',
        b"{} {}",
        b"{}x",
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xc0\xaf"}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": 1.0}',
        b'{"a": 1e3}',
        b'{"a": -0.0}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 9007199254740992}',
        b'{"a": -9007199254740992}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 01}',
        b'{"a": "\\ud800"}',
        b'{"a": ["\\udfff"]}',
        b'{"\\ud83d": 1}',
        b'{"a": "\n"}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} // no',
        nested(9),
        nested(9, ""),
        b'{"a":' * 30_000,
        b"[" * 60_000,
        b'{"a": "' + b"x" * LIMIT + b'"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_refused(body: bytes) -> None:
    with pytest.raises(strict.Malformed):
        strict.parse_json(body, LIMIT)


def test_accepted() -> None:
    assert strict.parse_json(nested(8), LIMIT)
    assert strict.parse_json(nested(8, ""), LIMIT)
    edges = {"a": 2**53 - 1, "b": 1 - 2**53, "c": [True, False, None, ""], "d": {"\U0001f600": "é\x00"}}
    assert strict.parse_json(json.dumps(edges).encode(), LIMIT) == edges
    assert strict.parse_json(json.dumps(edges, ensure_ascii=False).encode(), LIMIT) == edges


@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,0123456789eE.-+\\ud8 truefalsn', max_size=60).map(str.encode))
def test_any_bytes_are_refused_or_an_object(body: bytes) -> None:
    with contextlib.suppress(strict.Malformed):
        assert isinstance(strict.parse_json(body, LIMIT), dict)


@pytest.mark.parametrize(
    ("line", "fine"),
    [
        ("203.0.113.0/24", True),
        ("203.0.113.7", True),
        ("2001:db8::/32", True),
        ("203.0.113.7/24", False),
        ("203.0.113.0/33", False),
        ("*", False),
        ("!203.0.113.7", False),
        ('1.2.3.4",command="sh', False),
        ('fe80::1%a"', False),
        ("1.2.3.4\n", False),
        ("example.com", False),
    ],
)
def test_addresses_cannot_leave_their_quotes(line: str, fine: bool) -> None:
    if fine:
        assert strict.address(line, "here") == line
    else:
        with pytest.raises(strict.Malformed):
            strict.address(line, "here")
