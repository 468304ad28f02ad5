"""The files that can be managed, and how they are."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ._kinds import KINDS, READS, facts


@action("config.list", "List the kinds of configuration files that are managed", kind="read", reads=READS)
def list_files(params: Params, probe: Probe) -> dict[str, Any]:  # noqa: ARG001  (a plan's signature)
    return {"files": [facts(probe, name) for name in KINDS]}
