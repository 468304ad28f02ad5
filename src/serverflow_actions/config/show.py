"""One managed file."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action
from ._kinds import KIND, KINDS, READS, facts, text_of


@action("config.show", "Show a managed configuration file", kind="read", reads=READS, params=[KIND])
def show(params: Params, probe: Probe) -> dict[str, Any]:
    kind = KINDS[params.kind]
    return {**facts(probe, params.kind), "help": kind.help, "text": text_of(probe, kind.path) or ""}
