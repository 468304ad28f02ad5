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
    lock_wait: str,
    timeout: str | None = None,
    safe: bool = False,
    confirm_within: str | None = None,
    no_confirm: bool = False,
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
