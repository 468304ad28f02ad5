"""Runs of jobs as servers tell of them: what one of them says wrongly must not hide what the others say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Outcomes of a run that is over and did what it should, and of one that is not over.
GOOD, OPEN = ("ok",), ("", "running")


def records(data: Mapping[str, Any], key: str = "runs") -> list[Mapping[str, Any]]:
    """A list of records in what a server told; what is none is left out."""
    found = data.get(key)
    return [record for record in found if isinstance(record, Mapping)] if isinstance(found, list) else []


def told(record: Mapping[str, Any]) -> str:
    """How a run ended, in a few words: `failed, exit code 3`."""
    outcome = str(record.get("outcome") or "running")
    if record.get("signal"):
        return f"{outcome}, signal {record['signal']}"
    if isinstance(record.get("exit"), int) and record["exit"]:
        return f"{outcome}, exit code {record['exit']}"
    return f"{outcome}: {record['message']}" if record.get("message") else outcome
