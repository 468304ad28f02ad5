"""Whether PowerDNS serves somebody else's zones already: its settings are read as it reads them itself.

https://github.com/PowerDNS/pdns/blob/master/pdns/arguments.cc, and bindlexer.l for the files of the bind backend
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..kit import HostError, Probe, Refused
from ..kit.powerdns import API_CONFIG, CONFIG, FOLDER

_MAIN = "/etc/powerdns/pdns.conf"
_BLANKS = " \t\r\f\v"
_WORD = r'[^" \t\n{};]'
#: In a file for BIND: text, comments and words, of which `zone` and `include "FILE";` count. Comments begin where a
#: word would; within one `#`, `//` and `/*` are characters like others.
_BIND = re.compile(
    rf'"[^"]*"?|/\*(?!{_WORD}).*?(?:\*/|\Z)|(?://|#)[^\n]*'
    rf'|(?P<include>include)(?!{_WORD})(?:[ \t;]*"(?P<path>/[^" \t\n;]+)")?|(?P<word>{_WORD}+)',
    re.S,
)
#: Debian's named.conf includes it, and only the package makes it.
_MAY_BE_MISSING = "/var/lib/powerdns/supermaster.conf"


def refuse_others(probe: Probe) -> None:
    """Raises Refused where PowerDNS serves from elsewhere, or would not read our settings. Debian's bind backend, which
    comes along when recommended packages are installed, has no zones by itself. What cannot be read here may have some:
    /home and the like are hidden from actions.
    """
    settings = _settings(probe)
    folder = settings.get("include-dir", "")
    if folder.rstrip("/") != FOLDER:
        raise Refused(
            f"{_MAIN} includes {folder or 'no folder'} and not {FOLDER}, where ServerFlow's settings would be"
        )
    for backend in re.split(r"[,\s]+", settings.get("launch", "")):
        kind, _, name = backend.partition(":")
        path = settings.get(f"bind-{name}-config" if name else "bind-config", "")
        if kind == "bind" and not (path and _has_zone(probe, path, set())):
            continue
        if kind:
            where = f" ({path})" if kind == "bind" else ""
            raise Refused(f"PowerDNS serves by {kind} here{where}: it is left alone")


def _settings(probe: Probe) -> dict[str, str]:
    """All that are set by others. Before the package is installed, those that it brings."""
    found: dict[str, str] = {}
    if probe.stat(_MAIN):
        _take(found, _read(probe, _MAIN))
    else:
        found["include-dir"] = FOLDER
    folder = found.get("include-dir", "")
    names = [name for name in probe.names(folder) if name.endswith(".conf") and name[0] != "."] if folder else []
    for path in (f"{folder.rstrip('/')}/{name}" for name in sorted(names, key=str.lower)):
        if path not in (CONFIG, API_CONFIG):
            _take(found, _read(probe, path))
    return found


def _read(probe: Probe, path: str) -> str:
    """Raises Refused for what PowerDNS reads and we cannot."""
    if not path.startswith("/"):
        raise Refused(f"PowerDNS reads {path} here, which is no absolute path: it is left alone")
    try:
        text = probe.read(path)
    except HostError:
        text = None
    if text is None:
        raise Refused(f"PowerDNS reads {path} here, which ServerFlow cannot: it is left alone")
    return text.decode("utf-8", "replace")


def _take(found: dict[str, str], text: str) -> None:
    for line in _lines(text):
        before, added, value = line.partition("+=")
        if not added:
            before, _, value = line.partition("=")
        name, value = before.strip(_BLANKS), value.strip(_BLANKS)
        found[name] = f"{found[name]}, {value}" if added and found.get(name) else value


def _lines(text: str) -> Iterator[str]:
    """Without comments; one that ends with a backslash goes on in the next."""
    line = ""
    for piece in text.split("\n"):
        line += piece.rstrip(_BLANKS)
        if line.endswith("\\"):
            line = line[:-1]
            continue
        # The first # of a line decides: within a word it is a character, and so are all that follow.
        at = line.find("#")
        if at == 0 or (at > 0 and line[at - 1] in _BLANKS):
            line = line[:at]
        yield line.strip(_BLANKS)
        line = ""


def _has_zone(probe: Probe, path: str, seen: set[str]) -> bool:
    """Whether a file for BIND, or one that it includes, has a zone. Raises Refused where that cannot be told."""
    if path in seen or (path == _MAY_BE_MISSING and not probe.stat(path)):
        return False
    seen.add(path)
    for each in _BIND.finditer(_read(probe, path)):
        if each["include"] and not each["path"]:
            raise Refused(f"{path} includes a file by no absolute path, so PowerDNS may have zones: it is left alone")
        if each["word"] == "zone" or (each["path"] and _has_zone(probe, each["path"], seen)):
            return True
    return False
