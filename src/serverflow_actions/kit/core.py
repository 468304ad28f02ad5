"""Actions that the runner carries out itself, because they need the state that every sandbox hides."""

from __future__ import annotations


def by_the_runner() -> None:
    """Stands in the place of a plan. Reaching it is a bug of the runner."""
    raise RuntimeError("the runner carries this action out itself")
