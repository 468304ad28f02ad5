"""How a change is made, out of the options that commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import safety, seconds
from .session import Session


def how_of(
    session: Session,
    plan: bool,
    yes: bool,
    safe: bool,
    confirm_within: str | None,
    no_confirm: bool,
    timeout: str | None,
    lock_wait: str,
) -> Mapping[str, Any]:
    """What flows.config.How is made of. Raises UsageError."""
    return {
        "plan": plan,
        "approve": session.approver(yes=yes or plan),
        "timeout_s": seconds("--timeout", timeout) if timeout else None,
        "lock_wait_s": seconds("--lock-wait", lock_wait),
        "report": session.report,
        "safety": safety(safe, confirm_within, no_confirm),
    }
