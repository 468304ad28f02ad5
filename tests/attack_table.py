"""The table of attacks in docs/security.md, made from the tests that are marked with `@attack`.

`python -m tests.attack_table` writes it anew; a unit test fails when it is not what the tests say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"
START, END = "<!-- attacks: made by python -m tests.attack_table -->", "<!-- end of attacks -->"


class Attack(NamedTuple):
    """One mark: which attack, what stops it, and the test that makes it."""

    name: str
    stopped_by: str
    file: str
    test: str
    case: str


@cache
def attacks() -> list[Attack]:
    """All marks, by file and in the order of the source. Raises ValueError for one that cannot be read."""
    files = sorted(TESTS.glob("*/test_*.py"))
    return [found for file in files for found in _of_file(file)]


def _of_file(file: Path) -> Iterator[Attack]:
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "attack":
                place = f"{file.name}, line {mark.lineno}"
                if not node.name.startswith(("test_", "Test")):
                    raise ValueError(f"{place}: {node.name} is no test")
                (name,) = (str(ast.literal_eval(argument)) for argument in mark.args)
                words = {str(word.arg): str(ast.literal_eval(word.value)) for word in mark.keywords}
                if "case" in words and words["case"] not in _cases(file.parent):
                    raise ValueError(f"{place}: there is no case {words['case']}")
                path = file.relative_to(TESTS.parent).as_posix()
                yield Attack(name, words["stopped_by"], path, node.name, words.get("case", ""))


@cache
def _cases(folder: Path) -> set[str]:
    """Keys of the dicts and items of the lists in a folder's files: what the ids of parametrized tests come from."""
    nodes = (node for file in folder.glob("*.py") for node in ast.walk(ast.parse(file.read_text())))
    items = [item for node in nodes if isinstance(node, ast.Dict | ast.List) for item in _items(node)]
    return {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}


def _items(node: ast.Dict | ast.List) -> list[ast.expr | None]:
    return node.keys if isinstance(node, ast.Dict) else [*node.elts]


def table(found: list[Attack]) -> str:
    """Rows sorted by attack; tests of the same attack and the same defence share one."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in found:
        link = f"[{_shown(one)}](../{one.file})"
        tests = rows.setdefault((one.name, one.stopped_by), [])
        if link not in tests:
            tests.append(link)
    ordered = sorted(rows.items(), key=lambda row: [text.casefold() for text in row[0]])
    lines = ["| attack | what stops it | test |", "| --- | --- | --- |"]
    lines += [f"| {name} | {stopped_by} | {'<br>'.join(tests)} |" for (name, stopped_by), tests in ordered]
    return "\n".join(lines)


def _shown(one: Attack) -> str:
    words = one.test.removeprefix("test_").replace("_", " ") if one.test.startswith("test_") else _words(one.test)
    return f"{words}: {one.case}" if one.case else words


def _words(name: str) -> str:
    """TestAByteThatWasChanged → a byte that was changed."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name[4:]).strip()


def page() -> str:
    """docs/security.md with the table of now. Raises ValueError without the two markers."""
    before, _, rest = PAGE.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{PAGE} has no markers for the table")
    return f"{before}{START}\n\n{table(attacks())}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
