"""Reads nginx's configuration as it stands: which servers others have in it, and what they have set for all.

`nginx -T` would say it, but opens its logs, which a sandbox does not let it. This reads the same files. It need not
understand every module's syntax: what it misses nginx itself finds when it tests the whole.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..kit import Probe
from ..kit.probe import HostError

ROOT = "/etc/nginx"
#: Files that include each other for ever end here.
_DEEPEST = 8
_MOST_FILES = 500

_TOKEN = re.compile(
    r"""\s+ | (?P<comment>\#[^\n]*) | (?P<mark>[{};])
    | "(?P<double>(?:\\.|[^"\\])*)" | '(?P<single>(?:\\.|[^'\\])*)' | (?P<word>(?:\\.|\$\{|[^\s;{}\\])+)""",
    re.X | re.S,
)


@dataclass
class Server:
    """A `server` block: names, ports, and the ports that it is the declared default of."""

    file: str
    names: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    default: set[int] = field(default_factory=set)

    @property
    def listens(self) -> set[int]:
        """Without a `listen` it is port 80."""
        return self.ports or {80}


@dataclass
class Found:
    """All servers, the directives that stand in `http` itself with the files that have them, and the workers' user."""

    servers: list[Server] = field(default_factory=list)
    http: dict[str, set[str]] = field(default_factory=dict)
    user: str = "www-data"


def tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Words and marks; the second is True for a mark, one of `{`, `}` and `;`."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "mark":
            yield match.group(), True
        elif kind and kind != "comment":
            yield match.group(kind), False


def statements(text: str) -> Iterator[tuple[list[str], str]]:
    """Each directive's words and what ends them: `;` or `{`. A block's own end has no words, and `}`."""
    words: list[str] = []
    for piece, is_mark in tokens(text):
        if not is_mark:
            words.append(piece)
        elif words or piece == "}":
            yield words, piece
            words = []


def read(probe: Probe) -> Found:
    """What nginx.conf and all that it includes say; where there is no nginx yet, what its package will bring."""
    found = Found()
    if not probe.stat(f"{ROOT}/nginx.conf"):
        found.servers.append(Server(f"{ROOT}/sites-available/default", ["_"], {80}, {80}))
    _Reader(probe, found).read(f"{ROOT}/nginx.conf", [], 0)
    return found


class _Reader:
    def __init__(self, probe: Probe, found: Found) -> None:
        self._probe = probe
        self._found = found
        self._left = _MOST_FILES
        self._server: Server | None = None

    def read(self, path: str, blocks: list[str], depth: int) -> None:
        """`blocks` are those around the place where it is included."""
        if depth > _DEEPEST or not self._left:
            return
        self._left -= 1
        try:
            text = (self._probe.read(path) or b"").decode("utf-8", "replace")
        except HostError:
            return  # no plain file: nginx will say so
        inner = list(blocks)
        for words, end in statements(text):
            if end == "}":
                if len(inner) > len(blocks) and inner.pop() == "server":
                    self._server = None
                continue
            self._take(words, path, inner, depth)
            if end == "{":
                inner.append(words[0])
                if inner[-2:] == ["http", "server"]:
                    self._server = Server(path)
                    self._found.servers.append(self._server)

    def _take(self, words: list[str], path: str, blocks: list[str], depth: int) -> None:
        name, values = words[0], words[1:]
        if name == "include" and values:
            for each in self._matching(values[0]):
                self.read(each, blocks, depth + 1)
        elif name == "user" and values and not blocks:
            self._found.user = values[0]
        elif blocks == ["http"]:
            self._found.http.setdefault(name, set()).add(path)
        elif self._server and blocks == ["http", "server"]:
            if name == "server_name":
                self._server.names += [name for each in values for name in _names(each.lower())]
            elif name == "listen" and values:
                port = _port(values[0])
                self._server.ports.add(port)
                if {"default_server", "default"} & set(values[1:]):
                    self._server.default.add(port)

    def _matching(self, pattern: str) -> Iterator[str]:
        """The files of an include; a glob counts in its last part, as distributions have it."""
        whole = posixpath.join(ROOT, pattern)
        folder, last = posixpath.split(whole)
        if not set(last) & set("*?["):
            yield whole
            return
        # As glob(3): a name that begins with a dot is not meant.
        for name in self._probe.names(folder):
            if not name.startswith(".") and fnmatch.fnmatchcase(name, last):
                yield f"{folder}/{name}"


def _names(name: str) -> list[str]:
    """`.acme.app` is acme.app and all names below it."""
    return [name[1:], f"*{name}"] if name.startswith(".") else [name]


def _port(place: str) -> int:
    """The port of a `listen`; 0 for a socket of the file system."""
    if place.startswith("unix:"):
        return 0
    if place.isdigit():
        return int(place)
    last = place.rpartition(":")[2]
    return int(last) if ":" in place and last.isdigit() else 80
