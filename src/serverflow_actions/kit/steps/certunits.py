"""The units of kit/certunits.py, which only the executor may write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..certunits import FILES, TIMER
from .watch import WatchUnit


@dataclass(frozen=True)
class CertUnits(WatchUnit):
    """The service and the timer that renew certificates; or `absent`. Needs host_verbs=("cert-unit",)."""

    files: ClassVar[tuple[tuple[str, str], ...]] = FILES
    timer: ClassVar[str] = TIMER
    power: ClassVar[str] = "cert-unit"
