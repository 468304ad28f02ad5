"""How a safe change ended, or why nobody can say: the errors, in words that are right when they are read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from ..errors import OutcomeUnknown, RolledBack, SfError


class Final(OutcomeUnknown):
    """Another attempt to confirm would change nothing about it. Where it waits until `end`, by the loop's clock, its
    message has `in_time`, in whose place `late` is right from then on.
    """

    end = math.inf
    in_time = late = ""


def told_late(error: SfError | None) -> None:
    """Word a deadline that is over by now as that: other servers may have taken their time."""
    if isinstance(error, Final) and error.end <= asyncio.get_running_loop().time():
        error.message = error.message.replace(error.in_time, error.late)


def with_problems(gone_back: RolledBack, told: Mapping[str, Any]) -> RolledBack:
    """With what could not be put back, as the server tells it."""
    problems = listed(told.get("problems"))
    gone_back.message += f"; not all could be put back: {problems}" if problems else ""
    return gone_back


def listed(told: Any) -> str:
    """A server's list in one line, "" for none."""
    return "; ".join(map(str, told)) if isinstance(told, list) else ""
