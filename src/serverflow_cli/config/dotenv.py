"""Values from a file that other programs read: `NAME=value` lines, or a flat TOML table.

What is wrong is told by its line only: the text is made of secrets.
"""

from __future__ import annotations

import re
import tomllib

from ..errors import UsageError

_START = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_SKIPPED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\n]*")
_PEM = "-----BEGIN"
#: A name of base64's letters in both cases, with digits, as a line of a key or certificate that ends with `=` has one.
_BASE64 = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{16,}")
_IN_QUOTES = 'put the whole value in quotes: NAME="…"'
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str) -> dict[str, str]:
    """Names in lower case, with their values.

    `export` and comments are allowed. Single quotes keep all that is between them; in double quotes \\n, \\r, \\t are
    what they are in C, and another character after a backslash is itself. Both may span lines. A bare value ends where
    ` #` begins. `$NAME` is not replaced. A key of several lines has to be in quotes: without them its second line would
    be taken for a name.

    Raises UsageError.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if skipped := _SKIPPED.match(text, at):
            at = skipped.end() if skipped.end() > at else len(text)
            continue
        line = text.count("\n", 0, at) + 1
        start = _START.match(text, at)
        if not start:
            raise UsageError(f"line {line}: not NAME=value")
        value, at = _value(text, start.end(), line)
        _add(found, start[1], value, f"line {line}: ")
    return found


def parse_table(text: str) -> dict[str, str]:
    """The same from a TOML table of texts. Raises UsageError."""
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of more than 4300 digits
        line = re.search(r"line (\d+)", str(error))
        raise UsageError(f"line {line[1]}: not TOML" if line else "not TOML") from None
    found: dict[str, str] = {}
    for name, value in document.items():
        if not isinstance(value, str):
            _check_name(name, "")
            raise UsageError(f"{name[:63]!a} is not a text", hint='NAME = "value"')
        _add(found, name, value, "")
    return found


def _value(text: str, at: int, line: int) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        bare = _BARE.match(text, at)
        assert bare  # it matches nothing, too
        value = re.split(r"(?:^|[ \t])#", bare[0], maxsplit=1)[0].strip()
        if _PEM in value:
            raise UsageError(f"line {line}: a key of several lines", hint=_IN_QUOTES)
        return value, bare.end() + 1
    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    end = quoted and _SKIPPED.match(text, quoted.end())
    if not quoted or not end:
        raise UsageError(f"line {line}: a quote is not closed, or something follows it")
    if quote == "'":
        return quoted[1], end.end()
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted[1], flags=re.DOTALL), end.end()


def _check_name(name: str, where: str) -> None:
    if _BASE64.fullmatch(name):
        raise UsageError(f"{where}this looks like part of a key, not like a name", hint=_IN_QUOTES)


def _add(found: dict[str, str], name: str, value: str, where: str) -> None:
    _check_name(name, where)
    lowered = name.lower()
    if lowered in found:
        raise UsageError(f"{where}{lowered[:63]!a} is there twice")
    found[lowered] = value
