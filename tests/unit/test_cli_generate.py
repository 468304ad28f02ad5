"""What is derived from the command tree is what stands in the checkout."""

from __future__ import annotations

from pathlib import Path

from serverflow_actions import registry
from serverflow_cli.cli.areas import AREAS
from serverflow_cli.cli.generate import files

ROOT = Path(__file__).parents[2]


def test_generated_files_are_current() -> None:
    stale = [path for path, text in files().items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != text]
    assert stale == [], "run python -m serverflow_cli.cli.generate"


def test_no_page_is_left_of_an_area_that_is_gone() -> None:
    pages = {f"docs/reference/{page.name}" for page in (ROOT / "docs/reference").glob("*.md")}
    assert pages <= set(files())


def test_every_area_has_a_place_in_the_top_help() -> None:
    assert set(registry.areas()) <= {area.name for area in AREAS}
