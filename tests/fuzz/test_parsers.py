"""Every reader of outside data returns, or raises the error that it documents, whatever it is given."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .parsers import BYTES, TEXTS, VALUES, json_seeds, quietly
from .profile import EXAMPLES, PROFILE

#: What trips readers: ends, signs, quotes, escapes, depths, lengths, and characters that are more than they seem.
TOKENS = [
    b"", b"\0", b"\n", b"\r\n", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", "\u0661".encode(), "\u202e".encode(),
    b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"[", b"]", b"{", b"}", b"{}", b"[]", b",", b":", b".", b"..", b"/",
    b"-", b"=", b"#", b"null", b"true", b"NaN", b"1e999", b"0.5", b"-1", b"9" * 40, b"9" * 5000, b"[" * 3000,
    b'{"a":' * 3000, b"'''", b'"""', b"\x1b[", b"\x1b]", b"\x9b", bytes(4), b"\xff" * 4, b"SSHSIG", b"-----BEGIN",
    b"=\n", b"[[a]]", b"2027-02-30",
]  # fmt: skip


@st.composite
def near(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A valid message with a few pieces cut out, put in, doubled or turned."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([0, 1, 4, 40, 4000])))))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(["", "-", "\ud800", "a" * 5000, "\0", "x.y", "../x", 2**53, -1, 10**30]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = new
    return changed


@pytest.mark.parametrize("name", BYTES)
def test_what_is_valid_is_read(name: str, tmp_path: Path) -> None:
    for seed in BYTES[name].seeds:
        BYTES[name].read(seed, tmp_path)


#: What a person would try first: nothing, far too much, and nesting that a reader by recursion does not survive.
EXTREMES = [
    b"", b"\0", b"\n" * 10_000, b"\xff" * 10_000, b"[" * 100_000, b'{"a":' * 100_000,
    b'{"a":' + b"[" * 50_000 + b"]" * 50_000,
    b"{" + b'"a":' + b"9" * 100_000 + b"}", b"a = " + b"[" * 20_000 + b"]" * 20_000, b"a = " + b"{a = " * 5_000,
    b"a" + b".a" * 1_000 + b" = 1", b"[" + b"a." * 1_000 + b"a]\n", b"x = 1979-13-99", b"x = 25:61:61",
    b"a = " + b"9" * 5_000, b"a = 0x" + b"f" * 5_000, b"schema = 0x" + b"f" * 5_000, b"a = 1e" + b"9" * 5_000,
    b"schema = 1\n[servers.a]\nhost = 'a'\nport = 0x" + b"f" * 5_000,
    b'a = "\\ud800"', b'a = "\\UFFFFFFFF"', b"a = 1\r", b"a.b = 1\na = 2", b"schema = 1\n" * 2,
    b'"' * 50_001, b"'" * 50_001, b"\\" * 50_000, b"\x1b[" * 20_000, b"A" * 200_000, b"SSHSIG" * 10_000, b"," * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_extremes(name: str, tmp_path: Path) -> None:
    for data in EXTREMES:
        for end in (b"", b"\n"):
            quietly(partial(BYTES[name].read, data + end, tmp_path), BYTES[name].raises)


@pytest.mark.parametrize("name", BYTES)
@PROFILE
@given(data=st.data())
def test_bytes(name: str, tmp_path: Path, data: st.DataObject) -> None:
    reader = BYTES[name]
    given_ = data.draw(st.one_of(near(reader.seeds), near(reader.seeds), st.binary(max_size=200)))
    quietly(lambda: reader.read(given_, tmp_path), reader.raises)


@pytest.mark.parametrize("name", json_seeds())
@PROFILE
@given(data=st.data())
def test_a_body_with_another_value_in_one_place(name: str, tmp_path: Path, data: st.DataObject) -> None:
    reader, body = BYTES[name], json_seeds()[name]
    changed = replaced(body, data.draw(st.sampled_from(places(body))), data.draw(values))
    for text in (json.dumps(changed), json.dumps(changed, indent=1, sort_keys=True) + "\n"):
        quietly(partial(reader.read, text.encode(), tmp_path), reader.raises)


@pytest.mark.parametrize("group", sorted({name.partition(".")[0] for name in VALUES}))
@settings(PROFILE, max_examples=EXAMPLES * 10)
@given(data=st.data())
def test_values(group: str, data: st.DataObject) -> None:
    """Grammars, actions and types of the fleet file; each example takes another one of the group."""
    name = data.draw(st.sampled_from([name for name in VALUES if name.startswith(f"{group}.")]))
    reader = VALUES[name]
    seed = data.draw(st.sampled_from(reader.seeds))
    if isinstance(seed, dict):
        given_ = {**seed, **data.draw(st.dictionaries(st.sampled_from([*seed, "more", "\ud800"]), values, max_size=3))}
    else:
        given_ = data.draw(st.one_of(values, texts_near((str(seed),))))
    quietly(lambda: reader.read(given_), reader.raises)


def texts_near(seeds: tuple[str, ...]) -> st.SearchStrategy[str]:
    return near(tuple(seed.encode() for seed in seeds)).map(lambda data: data.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", TEXTS)
@PROFILE
@given(data=st.data())
def test_texts(name: str, data: st.DataObject) -> None:
    reader = TEXTS[name]
    text = data.draw(st.one_of(st.text(max_size=40), texts_near(reader.seeds)))
    quietly(lambda: reader.read(text), reader.raises)
