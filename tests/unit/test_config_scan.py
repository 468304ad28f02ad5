"""The scanner against tomllib: same paths, same keys, same values, and the right lines."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.config.keypath import Path as KeyPath
from serverflow_cli.config.keypath import dotted, lookup
from serverflow_cli.config.scan import scan

EXAMPLE = Path(__file__).with_name("fleet.example.toml").read_text()

AWKWARD = '''\
top = 1 # a comment = here
"quoted.key" = 'a # b = c'
a.b."c d".e = { f = [1, { g = "}" }], "h" = """"two quotes""""" }

[servers . "web.1"] # header = comment
text = """
[not.a.header]
key = "no"  \\""" still inside
"""
raw = \'\'\'
# no comment
\'\'\'
when = 2027-02-20 00:00:00Z   # a date with a space
list = [
  "a", # one ]
  # two = 2
  [ "b", ], { c = 1 },
]

[[grants]]
to = "x"
[grants.where]
app = "y"
[[grants]]
[[grants.deep]]
n = 1
[[grants.deep]]
n = 2
'''


def paths(value: Any, at: KeyPath = ()) -> set[KeyPath]:
    """Every path of a parsed document."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at} | {path for key, inner in steps for path in paths(inner, (*at, key))}


def check(text: str) -> None:
    document, found = tomllib.loads(text), scan(text)
    assert set(found.lines) == paths(document) - {()}
    for path, span in found.values.items():
        assert tomllib.loads(f"value = {text[span.start : span.end]}")["value"] == lookup(document, path)
    lines = text.split("\n")
    for span in found.keys:
        if span.start < span.end:
            assert list(tomllib.loads(f"{text[span.start : span.end]} = 0")) == [span.path[-1]]
            assert text[span.start : span.end] in lines[text.count("\n", 0, span.start)]
    for section in found.sections:
        for statement in section.statements:
            assert list(tomllib.loads(text[statement.start : statement.end]))  # whole lines stand alone


@pytest.mark.parametrize(
    "text", [EXAMPLE, AWKWARD, AWKWARD.replace("\n", "\r\n"), "", "# only\n", "a = 1", "[a]", "\n\n[a]\n\n"]
)
def test_finds_what_tomllib_finds(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("a", "b", "c d", "e", "f", 1, "g"), 3),
        (("servers", "web.1"), 5),
        (("servers", "web.1", "raw"), 10),
        (("servers", "web.1", "list", 1), 17),
        (("grants", 0), 20),
        (("grants", 0, "where", "app"), 23),
        (("grants", 1), 24),
        (("grants", 1, "deep", 1, "n"), 28),
        (("grants", 1, "missing"), 24),  # its parent's line
        (("nothing", "here"), 1),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    assert scan(AWKWARD).line(path) == line


def test_comments_belong_to_what_they_are_glued_to() -> None:
    text = "[a]\nx = 1\n# glued\n\n# of b\n[b]\ny = 1\n# of c\n[c]\n"
    root, a, b, c = scan(text).sections
    assert text[a.start : a.glued_end] == "[a]\nx = 1\n# glued\n"
    assert text[b.start : b.glued_end] == "[b]\ny = 1\n"
    assert (root.path, c.path) == ((), ("c",))


def test_paths_for_people() -> None:
    assert dotted(("dns", "zones", "acme.app", "records", 0, "ttl")) == 'dns.zones."acme.app".records[0].ttl'


SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        '"a # b"',
        "'c:\\d'",
        '"""x\n[y]\nz = \\"""" w"""',
        "'''\n'' = 1'''",
        "1979-05-27 07:32:00Z",
        "07:32:00",
        "inf",
        '""',
    ]
)
KEYS = st.sampled_from(["a", "b-1", "3", '"x.y"', "'l \"'", '"\\u00e9"', '"="'])
GAPS = st.sampled_from([" ", "", "\t"])
COMMENTS = st.sampled_from(["", " # c", "#[x]", "\t# a = 1"])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "list", "table"])) if depth else "scalar"
    if kind == "scalar":
        return draw(SCALARS)
    inner = draw(st.lists(values(depth - 1), max_size=3))
    if kind == "list":
        separator = draw(st.sampled_from([", ", ",", ", # ]\n", "\n  ,\n"]))
        opening = draw(st.sampled_from(["[", "[ ", "[\n", "[ # [\n"]))
        return f"{opening}{separator.join(inner)}{draw(st.sampled_from([']', chr(10) + ']']))}"
    keys = draw(st.lists(KEYS, min_size=len(inner), max_size=len(inner), unique=True))
    return f"{{ {', '.join(f'{key} = {value}' for key, value in zip(keys, inner, strict=True))} }}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines: list[str] = []
    for header in [
        "",
        *draw(st.lists(st.builds(lambda a, b: f"h{a}.{b}", KEYS.filter(str.isalnum), KEYS), unique=True, max_size=3)),
    ]:
        lines += [draw(st.sampled_from(["", "# above"]))] if lines else []
        gap = draw(GAPS)
        lines += [f"{gap}[{gap}{header}{gap}]{draw(COMMENTS)}"] if header else []
        for key in draw(st.lists(KEYS, unique=True, max_size=3)):
            tail = draw(st.sampled_from(["", ".t", f"{gap}.{gap}'u'"]))
            lines += [f"{gap}{key}{tail}{gap}={gap}{draw(values())}{draw(COMMENTS)}"]
        for _ in range(draw(st.integers(0, 2)) if header else 0):
            lines += [f"[[lists.{header}]]{draw(COMMENTS)}", f"n = {draw(values())}"]
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@given(documents())
def test_any_document(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # an inline table with a line end in it, and the like
    check(text)
