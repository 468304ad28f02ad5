"""Text from servers made safe to show: it can neither drive the terminal nor look like something that it is not."""

from __future__ import annotations

import re
import unicodedata

#: ECMA-48 control sequences, whole: CSI …, OSC/DCS/SOS/PM/APC … up to their end, and two-character escapes.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)

#: Cc control, Cf format (bidi overrides, zero-width), Cs lone surrogates, Zl and Zp separators that break a line.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def clean(text: str) -> str:
    """One line without control characters, escape sequences and bidirectional overrides (Unicode TR 36)."""
    return _strip(re.sub(r"[\r\n\t]+", " ", _SEQUENCES.sub("", text)), keep="")


def clean_block(text: str) -> str:
    """The same for several lines: newlines and tabs stay."""
    return _strip(_SEQUENCES.sub("", text), keep="\n\t")


def _strip(text: str, keep: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in keep or unicodedata.category(c) not in _UNSAFE)
