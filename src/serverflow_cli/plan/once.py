"""What follows from a fleet file is worked out once: a plan asks for it again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..model.fleet import Fleet

T = TypeVar("T")
#: An edit compares two: before and after.
_FLEETS = 4


def once(work: Callable[[Fleet], T]) -> Callable[[Fleet], T]:
    """Do it once for a fleet, which never changes. What it returns must not be changed either."""
    known: deque[tuple[Fleet, T]] = deque(maxlen=_FLEETS)

    @wraps(work)
    def recalled(fleet: Fleet) -> T:
        for each, found in known:
            if each is fleet:
                return found
        known.append((fleet, work(fleet)))
        return known[-1][1]

    return recalled
