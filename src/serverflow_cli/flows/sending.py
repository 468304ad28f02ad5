"""Which operations have left for a server: the id of one that was refused before is known nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.result import Report


class Sending:
    """A Report that passes everything on."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._sent: set[str] = set()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event.get("t") == "op":
            self._sent.add(str(event.get("op", "")))
        self._report(event)

    def id_of(self, op_id: str) -> str:
        """The id itself once it was sent, else ""."""
        return op_id if op_id in self._sent else ""
