"""What people hear of the runs of a job, and what is over with each."""

from __future__ import annotations

from typing import Any

import alerts

_DATA = ("run", "outcome", "exit", "signal", "attempts", "trigger")


def of_start(name: str, delay: int, late: int) -> None:
    """A run that cron fired has begun `delay` seconds after its time; from `late` on that is late."""
    if delay > late:
        alerts.emit("cron.late", f"cron.late/{name}", f"Cron job {name} started late", f"{delay} s after its time")
    else:
        _resolve("cron.late", name, f"Cron job {name} started in time")


def of_end(name: str, line: dict[str, Any], output: str) -> None:
    """`line` is the last one of its record."""
    outcome = line["outcome"]
    if outcome == "refused":
        return  # whoever has refused it tells
    data: dict[str, Any] = {key: line[key] for key in _DATA if key in line}
    if outcome == "skipped":
        alerts.emit("cron.skipped", f"cron.skipped/{name}", f"Cron job {name} was skipped", line["message"], data)
        return
    over = ["cron.hanging", "cron.skipped"]
    if outcome == "ok":
        over += ["cron.failed", "cron.missed", "cron.disabled", "cron.changed"]
    else:
        text = "\n\n".join(part for part in (line.get("message", ""), output) if part)
        alerts.emit("cron.failed", f"cron.failed/{name}", f"Cron job {name} failed: {_word(line)}", text, data)
    for kind in over:
        _resolve(kind, name, f"Cron job {name} ended ({outcome})" if outcome != "ok" else f"Cron job {name} ran")


def _word(line: dict[str, Any]) -> str:
    if line["outcome"] == "failed" and line.get("exit"):
        return f"exit status {line['exit']}"
    return str(line["outcome"]).replace("-", " ")


def _resolve(kind: str, name: str, title: str) -> None:
    alerts.emit(kind, f"{kind}/{name}", title, state="resolved")
