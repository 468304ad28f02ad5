"""Edits of fleet.toml that leave everything else as its author wrote it: comments, order, spacing, quotes.

An edit replaces spans of the text, so what lies outside of them cannot change; inside of inline tables and lists, where
commas and comments matter, tomlkit does it. The result must load as a fleet before a byte is written.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..errors import UsageError
from .atomic import locked, write_atomic
from .crosscheck import REFERENCES, SELECTORS
from .folder import FleetFolder
from .keypath import Path, lookup, matching
from .literal import key as key_text
from .literal import literal
from .load import parse, read_text, toml
from .scan import Scan, Section, Span, scan

#: References that need no entry to exist (a grant may be for a CI key), but follow when there is one and it is renamed.
_LOOSE_REFERENCES: Mapping[Path, tuple[Path, ...]] = {("operators",): (("grants", "*", "to"),)}


@contextmanager
def edit(folder: FleetFolder, timeout_s: float = 10.0) -> Iterator[Editor]:
    """Edit fleet.toml: lock, read, yield an Editor, check the result, write it in one step.

    Nothing is written when the block raises, when the result would not load, or when it is what stands there already.

    Raises Locked, and ConfigError as `load` does.
    """
    path = folder.fleet_toml
    with locked(path, timeout_s):
        before = read_text(path)
        parse(before)  # so that an edit is never blamed for what was wrong already
        editor = Editor(before)
        yield editor
        after = editor.text
        if after != before:
            parse(after)
            write_atomic(path, after.encode(), stat.S_IMODE(path.stat().st_mode))


def take_back(folder: FleetFolder, before: str, after: str, timeout_s: float = 10.0) -> bool:
    """Make `before` the file again, unless it is no longer `after`: then somebody else has edited it. Raises Locked."""
    path = folder.fleet_toml
    with locked(path, timeout_s):
        if read_text(path) != after:
            return False
        write_atomic(path, before.encode(), stat.S_IMODE(path.stat().st_mode))
        return True


class Editor:
    """A fleet file's text and its edits. A table is named as in its header: "servers", "dns.zones"; "" is the file."""

    def __init__(self, text: str) -> None:
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        # Only where all line ends agree can new lines follow them.
        self._crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
        self._text = text.removeprefix("\ufeff")
        if self._crlf:
            self._text = self._text.replace("\r\n", "\n")
        toml(self._text, "fleet.toml")

    @property
    def text(self) -> str:
        """The file's whole new content."""
        return self._mark + (self._text.replace("\n", "\r\n") if self._crlf else self._text)

    def exists(self, table: str, name: str) -> bool:
        """Whether the table has an entry of that name."""
        return self._get(_entry(table, name)) is not None

    def set_entry(self, table: str, name: str, values: Mapping[str, Any]) -> None:
        """Add an entry, or merge into the one that is there; a value of None takes its key out."""
        entry = _entry(table, name)
        if not self.exists(table, name):
            self._create(entry, {key: value for key, value in values.items() if value is not None})
            return
        for key, value in values.items():
            if value is None:
                self._remove((*entry, key))
            elif not _same(self._get((*entry, key)), value):
                self._put((*entry, key), value)

    def remove_entry(self, table: str, name: str) -> None:
        """Take an entry out, with the comments inside of it. Nothing happens when there is none."""
        self._remove(_entry(table, name))

    def rename_entry(self, table: str, old: str, new: str) -> None:
        """Give an entry another name, in its place, and let everything that names it follow.

        Raises UsageError when there is no such entry, or the new name is taken.
        """
        if old == new:
            return
        if not self.exists(table, old):
            raise UsageError(f"there is no {table}.{old}")
        if self.exists(table, new):
            raise UsageError(f"there is a {table}.{new} already")
        for span in reversed(self._scan().keys):
            if span.path == _entry(table, old):
                self._splice(span.start, span.end, key_text(new))
        self._rename_references(tuple(table.split(".")), old, new)

    def add_to_list(self, table: str, name: str, key: str, value: str) -> None:
        """Append to a list of an entry, unless the value is in it; the list is made when there is none."""
        path = (*_entry(table, name), key)
        present = self._get(path)
        if present is None:
            self.set_entry(table, name, {key: [value]})
        elif value not in present:
            self._inside(path, lambda array: array.append(value))

    def remove_from_list(self, table: str, name: str, key: str, value: str) -> None:
        """Take a value out of a list of an entry. Nothing happens when it is not there."""
        path = (*_entry(table, name), key)
        if value in (self._get(path) or ()):
            self._inside(path, lambda array: array.remove(value))

    def elements(self, table: str | Path) -> list[Mapping[str, Any]]:
        """What a list of tables has."""
        return list(self._get(_path(table)) or ())

    def append_element(self, table: str | Path, values: Mapping[str, Any]) -> None:
        """Add an element to a list of tables: see `append_elements`."""
        self.append_elements(table, [values])

    def append_elements(self, table: str | Path, elements: Sequence[Mapping[str, Any]]) -> None:
        """Add elements to a list of tables, after its last one; to one that is not there yet, as `[[table]]`, or
        inside of the entry that it belongs to. A path is for names with a dot in them.

        Nothing happens with those to which an equal one is there.
        """
        path = _path(table)
        present = self._get(path) or []
        new = [values for values in elements if dict(values) not in present]
        if not new:
            return
        if not present and len(path) > 1 and path not in self._scan().values and self._get(path[:-1]) is not None:
            self._put(path, [])
        if path in self._scan().values:
            self._inside(path, partial(_append_tables, elements=new))
            return
        for values in new:
            self._create(path, values, (f"[[{key_text(*map(str, path))}]]", path))

    def update_elements(
        self, table: str | Path, matches: Callable[[Mapping[str, Any]], bool], values: Mapping[str, Any]
    ) -> None:
        """Set keys in the elements of a list of tables that match; a value of None takes its key out."""
        path = _path(table)
        for index, element in enumerate(self._get(path) or ()):
            for key, value in values.items() if matches(element) else ():
                if value is None and key in element:
                    self._remove((*path, index, key))
                elif value is not None and not _same(element.get(key), value):
                    self._put((*path, index, key), value)

    def remove_elements(self, table: str | Path, matches: Callable[[Mapping[str, Any]], bool]) -> None:
        """Take the elements out of a list of tables that match, with the comments inside of them."""
        path = _path(table)
        for index, element in reversed(list(enumerate(self._get(path) or ()))):
            if not matches(element):
                continue
            if path in self._scan().values:
                self._inside(path, partial(_delete, path=(index,)))
                continue
            here = (*path, index)
            sections = [section for section in self._scan().sections if section.path[: len(here)] == here]
            for section in reversed(sections):
                self._cut(section.start, section.glued_end)

    def _get(self, path: Path) -> Any:
        return lookup(toml(self._text, "fleet.toml"), path)

    def _scan(self) -> Scan:
        return scan(self._text)

    def _splice(self, start: int, end: int, new: str) -> None:
        self._text = self._text[:start] + new + self._text[end:]

    def _insert_line(self, at: int, line: str) -> None:
        """Put whole lines at the start of a line; the end of a file may lack its newline."""
        glue = "" if at == 0 or self._text[at - 1] == "\n" else "\n"
        self._splice(at, at, glue + line)

    def _put(self, path: Path, value: Any) -> None:
        """Write a value into an entry that exists, in the form that the entry has."""
        *above, key = path
        parent, found = tuple(above), self._scan()
        if path in found.values:
            self._splice(found.values[path].start, found.values[path].end, literal(value))
        elif self._get(path) is not None:  # written as headers or dotted keys
            self._remove(path)
            self._put(path, value)
        elif owner := _inline_owner(found, parent):
            self._inside(owner, lambda table: _assign(table, path[len(owner) :], value))
        elif section := next((section for section in found.sections if section.path == parent), None):
            self._insert_line(section.end, f"{self._indent(section)}{key_text(str(key))} = {literal(value)}\n")
        elif anchor := _last_dotted(found, parent):
            section, statement = anchor
            relative = [str(part) for part in path[len(section.path) :]]
            self._insert_line(statement.end, f"{self._indent(section)}{key_text(*relative)} = {literal(value)}\n")
        else:  # only [parent.child] headers
            self._create(parent, {str(key): value})

    def _indent(self, section: Section) -> str:
        if not section.statements:
            return ""
        match = re.compile(r"[ \t]*").match(self._text, section.statements[-1].start)
        return match.group() if match else ""

    def _create(self, entry: Path, values: Mapping[str, Any], element: tuple[str, Path] | None = None) -> None:
        """Write a new `[table.name]`, after the last one of its table, else at the end of the file.

        `element` is for a list of tables instead: its header, and the path that its other elements begin with.
        """
        found = self._scan()
        if owner := _inline_owner(found, entry[:-1]):
            self._inside(owner, lambda table: _assign(table, entry[len(owner) :], dict(values)))
            return
        header, above = element or (f"[{key_text(*map(str, entry))}]", entry[:-1])
        lines = [header, *(f"{key_text(name)} = {literal(value)}" for name, value in values.items())]
        block = "\n".join(lines) + "\n"
        siblings = [section for section in found.sections if section.path and section.path[: len(above)] == above]
        at = siblings[-1].glued_end if siblings else len(self._text)
        before, after = self._text[:at].rstrip(" \t"), self._text[at:].lstrip(" \t\r")
        gap = "" if not before or before.endswith("\n\n") else "\n"
        self._insert_line(at, gap + block + ("" if not after or after.startswith("\n") else "\n"))

    def _remove(self, path: Path) -> None:
        """Take out all that defines a path: headers and what is under them, dotted keys, a key of an inline table."""
        while self._get(path) is not None:
            found = self._scan()
            sections = [section for section in found.sections if section.path[: len(path)] == path]
            statements = [
                line for section in found.sections for line in section.statements if line.path[: len(path)] == path
            ]
            if sections:
                self._cut(sections[-1].start, sections[-1].glued_end)
            elif statements:
                self._splice(statements[-1].start, statements[-1].end, "")
            elif owner := _inline_owner(found, path[:-1]):
                self._inside(owner, partial(_delete, path=path[len(owner) :]))

    def _cut(self, start: int, end: int) -> None:
        """Take out whole lines, and the blank line that set them apart."""
        if self._text[:start].endswith("\n\n"):
            start -= 1
        elif self._text.startswith("\n", end):
            end += 1
        self._splice(start, end, "")

    def _inside(self, path: Path, change: Callable[[Any], object]) -> None:
        """Change an inline table or a list, which tomlkit knows how to write."""
        import tomlkit

        span = self._scan().values[path]
        fragment = tomlkit.parse(f"value = {self._text[span.start : span.end]}\n")
        change(fragment["value"])
        self._splice(span.start, span.end, fragment.as_string().removeprefix("value = ").removesuffix("\n"))

    def _rename_references(self, table: Path, old: str, new: str) -> None:
        document, spans = toml(self._text, "fleet.toml"), self._scan().values
        patterns = (
            SELECTORS if table == ("servers",) else (*REFERENCES.get(table, ()), *_LOOSE_REFERENCES.get(table, ()))
        )
        found = [
            (spans[path], value)
            for pattern in patterns
            for path, value in matching(document, pattern)
            if isinstance(value, str)
        ]
        for span, value in sorted(found, key=lambda pair: -pair[0].start):
            renamed = _rename_term(value, old, new) if table == ("servers",) else new if value == old else value
            if renamed != value:
                self._splice(span.start, span.end, literal(renamed))


def _path(table: str | Path) -> Path:
    return tuple(table.split(".")) if isinstance(table, str) else table


def _entry(table: str, name: str) -> Path:
    return (*table.split("."), name) if table else (name,)


def _rename_term(selector: str, old: str, new: str) -> str:
    """Replace the terms that are exactly the name, also behind `!`; globs stay."""
    return ",".join(
        re.sub(rf"\A(\s*!?){re.escape(old)}(\s*)\Z", rf"\g<1>{new}\g<2>", term) for term in selector.split(",")
    )


def _same(present: Any, value: Any) -> bool:
    """Equal and of one type: true is not 1."""
    plain = list(value) if isinstance(value, tuple) else value
    return type(present) is type(plain) and present == plain


def _inline_owner(found: Scan, path: Path) -> Path:
    """The nearest table around a path that is written inline; () when there is none."""
    while path and path not in found.values:
        path = path[:-1]
    return path


def _last_dotted(found: Scan, parent: Path) -> tuple[Section, Span] | None:
    lines = [
        (section, line)
        for section in found.sections
        for line in section.statements
        if line.path[: len(parent)] == parent
    ]
    return lines[-1] if lines else None


def _append_tables(array: Any, elements: Sequence[Mapping[str, Any]]) -> None:
    """Each on a line of its own, spaced as we space all that we write."""
    import tomlkit

    for values in elements:
        array.append(tomlkit.parse(f"value = {literal(dict(values))}\n")["value"])
    array.multiline(True)


def _assign(table: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value


def _delete(table: Any, path: Path) -> None:
    for part in path[:-1]:
        table = table[part]
    del table[path[-1]]
