"""Says of a test which attack it makes. `python -m tests.attack_table` makes the table of docs/security.md of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test")


def attack(name: str, *, stopped_by: str, case: str = "") -> Callable[[Test], Test]:
    """The attack's name in a few words, and what stops it. Attacks of one name share a row.

    With `case` only that case of a parametrized test makes the attack: a key of the dict that its ids come from.
    A test may make several attacks. The words are read from the source; at run time this changes nothing.
    """
    return lambda test: test
