"""Completion: the shell asks `sf __complete WORD…`, the last word being the one to complete.

Answers are lines of `value TAB description`, or the one line `:files` where the shell knows better. Whoever presses
TAB waits for this: it reads catalogue.json, which is generated from the command tree, and imports neither typer nor an
action.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..config.folder import find
from ..errors import ConfigError
from .listing import catalogue
from .seen import seen_units

FILES = ":files"
Candidates = Iterator[tuple[str, str]]


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what may stand in the place of the last word."""
    for value, description in complete(words or [""], environ):
        if value.isprintable():
            print(f"{value}\t{description}")
    return 0


def complete(words: Sequence[str], environ: Mapping[str, str]) -> Candidates:
    """Values that the last word may become, with descriptions."""
    line = _Line(catalogue(), words[:-1])
    current = words[-1]
    prefix = ""
    if line.pending:
        found = line.values(line.pending, current, environ)
    elif current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        prefix = option + "="
        found = line.values(line.options.get(option, ["", ""])[0], current, environ)
    elif current.startswith("-"):
        found = iter((name, help) for name, (_, help) in line.options.items())
    else:
        found = line.words(current, environ)
    for value, description in found:
        if value.startswith(current) or value == FILES:
            yield (value if value == FILES else prefix + value), description


class _Line:
    """What the words before the current one say: which command, which options, what is still open."""

    def __init__(self, known: Mapping[str, Any], words: Sequence[str]) -> None:
        self._catalogue = known
        self._places: list[str] = []
        self.pending = ""
        self.fleet: str | None = None
        self.options: dict[str, list[str]] = dict(known["global"])
        self._command: Mapping[str, Any] | None = None
        option = ""
        for word in words:
            if option:
                if option == "--fleet":
                    self.fleet = word
                option = ""
            elif word.startswith("-"):
                option = word if "=" not in word and self.options.get(word, [""])[0] else ""
                if word.startswith("--fleet="):
                    self.fleet = word.removeprefix("--fleet=")
            else:
                self._places.append(word)
                self._enter()
        if option:
            self.pending = self.options[option][0]

    def _enter(self) -> None:
        """Look whether the words so far name a command."""
        commands = self._catalogue["commands"]
        if self._command is None and (found := commands.get(" ".join(self._places))):
            self._command = found
            self.options = {**found["options"], **self._catalogue["global"]}
            self._given = len(self._places)

    def words(self, current: str, environ: Mapping[str, str]) -> Candidates:
        """Area, command or argument, whatever is due."""
        if self._command is None:
            if not self._places:
                return self._areas()
            return iter(self._next_words(" ".join(self._places) + " ").items())
        arguments: list[list[str]] = self._command["arguments"]
        index = len(self._places) - self._given
        if index >= len(arguments):
            if not arguments or not self._command["many"]:
                return iter(())
            index = len(arguments) - 1
        return self.values(arguments[index][1], current, environ)

    def _next_words(self, start: str) -> dict[str, str]:
        """The commands and groups behind these words, with what a command does."""
        found: dict[str, str] = {}
        for path, command in self._catalogue["commands"].items():
            if path.startswith(start):
                word, *deeper = path.removeprefix(start).split(" ")
                found[word] = "" if deeper else command["help"]
        return found

    def values(self, kind: str, current: str, environ: Mapping[str, str]) -> Candidates:
        """Values of one kind; see generate.py for the kinds."""
        if kind == "file":
            return iter([(FILES, "")])
        if "|" in kind:
            return iter((choice, "") for choice in kind.split("|"))
        if kind == "action":
            commands = self._catalogue["commands"].items()
            return iter((c["action"], c["help"]) for _, c in commands if c["action"])
        if kind == "area":
            return self._areas()
        if kind == "unit":
            return iter((name, "") for name in seen_units())
        if kind == "assignment":
            return self._assignments(current, environ)
        return _names(kind, current, _fleet(self.fleet, environ))

    def _areas(self) -> Candidates:
        return iter((name, summary) for name, (_, summary) in self._catalogue["areas"].items())

    def _assignments(self, current: str, environ: Mapping[str, str]) -> Candidates:
        """`key=` for each parameter of the action that `sf action run` is to run, then that key's values."""
        action = self._places[self._given]
        command = next((c for c in self._catalogue["commands"].values() if c["action"] == action), None)
        params: dict[str, list[str]] = command["params"] if command else {}
        key, equals, value = current.partition("=")
        if not equals:
            return iter((f"{name}=", help) for name, (_, help) in params.items())
        found = self.values(params.get(key, ["", ""])[0], value, environ)
        return iter((f"{key}={name}", help) for name, help in found if name != FILES)


def _fleet(explicit: str | None, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """fleet.toml as it is, unchecked; empty when there is none or it cannot be read."""
    try:
        return tomllib.loads(find(explicit, environ).fleet_toml.read_text())
    except (ConfigError, OSError, ValueError):
        return {}


def _names(kind: str, current: str, fleet: Mapping[str, Any]) -> Candidates:
    servers = _table(fleet, "servers")
    if kind == "selector":
        start = current[: current.rfind(",") + 1]
        if current[len(start) :].startswith("!"):
            start += "!"
        yield from ((start + name, help) for name, help in _selectors(servers))
    elif kind == "server":
        yield from ((name, _about(server)) for name, server in servers.items())
    elif kind == "channel":
        yield from ((name, "") for name in _table(_table(fleet, "notify"), "channels"))
    elif kind == "zone":
        yield from ((name, "") for name in _table(_table(fleet, "dns"), "zones"))
    elif kind == "provider":
        yield from ((name, "") for name in _table(_table(fleet, "dns"), "providers"))
    elif kind == "cert":
        yield from ((name, "") for name in [*_table(fleet, "certificates"), *(["server"] if "acme" in fleet else [])])
    elif kind == "route":
        yield from ((name, "") for name in _table(fleet, "routes"))
    elif kind in ("role", "tag"):
        yield from ((name, "") for name in _labels(servers, kind + "s"))
    elif kind:
        tables = ("apps", kind) if kind == "app" else (kind,)
        yield from ((name, "") for table in tables for name in _table(fleet, table))


def _selectors(servers: Mapping[str, Any]) -> Candidates:
    yield from ((name, _about(server)) for name, server in servers.items())
    yield from ((f"@{role}", "role") for role in _labels(servers, "roles"))
    yield from ((f"+{tag}", "tag") for tag in _labels(servers, "tags"))
    yield "all", "every server"


def _labels(servers: Mapping[str, Any], key: str) -> list[str]:
    lists = (server.get(key) for server in servers.values() if isinstance(server, dict))
    return sorted({str(label) for labels in lists if isinstance(labels, list) for label in labels})


def _about(server: Any) -> str:
    host = server.get("host", "") if isinstance(server, dict) else ""
    return host if isinstance(host, str) and host.isprintable() else ""


def _table(fleet: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = fleet.get(name)
    return table if isinstance(table, dict) else {}
