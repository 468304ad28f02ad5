"""What operators see of certificates: the reads of the area cert, and what a task of it reports. No secrets."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import certdue
import certinstall
import certs
import certserved
import layout
from messages import Denied


def listed() -> list[dict[str, Any]]:
    """All of this server, by name: those that are wished for, and those that were left."""
    left = set()
    with contextlib.suppress(FileNotFoundError):
        left = {entry for entry in os.listdir(layout.CERTS) if certs.is_name(entry)}
    return [described(name) for name in sorted({*certs.names(), *left})]


def described(name: str) -> dict[str, Any]:
    """One. Times are ms since the epoch, 0 for none; `next` is when it is renewed, `why` why then (certdue.Due).
    `served` is None where no endpoint is asked.
    """
    known = certs.state(name)
    told: dict[str, Any] = {
        "name": name, "names": [], "directory": "", "problem": "",
        "path": f"{layout.CERTS}/{name}" if certinstall.current(name) else "",
        "issuer": known.issuer, "serial": known.serial, "fingerprint": known.fingerprint,
        "not_before": known.not_before * 1000, "not_after": known.not_after * 1000,
        "installed_at": known.installed_at * 1000, "served": None, "not_served": known.not_served,
        "revoked": known.revoked, "next": 0, "why": "", "retry_at": known.retry_at * 1000,
        "window": [each * 1000 for each in known.window], "explanation": known.explanation, "ari": known.ari_said,
        "attempted_at": known.attempted_at * 1000, "failures": known.failures, "said": known.said,
        "rehearsed_at": known.rehearsed_at * 1000, "rehearsal": known.rehearsal,
    }  # fmt: skip
    try:
        wish = certs.read(name)
        certs.credential(wish)
    except KeyError:
        return {**told, "problem": "nothing renews it: it is not wished for any more"}
    except certs.Damaged as error:
        return {**told, "problem": str(error)}
    when = certdue.due(wish, known)
    return {
        **told, "names": list(wish.names), "directory": wish.directory, "next": when.at * 1000, "why": when.why,
        "served": known.served if wish.verify else None,
    }  # fmt: skip


def checked(name: str) -> dict[str, Any]:
    """One, and what its endpoints serve right now. Raises Denied."""
    try:
        wish = certs.read(name)
    except KeyError:
        raise Denied("action-failed", f"there is no certificate {name} on this server") from None
    except certs.Damaged:
        return {**described(name), "endpoints": []}
    fingerprint = certs.state(name).fingerprint
    endpoints = [{"endpoint": each, "problem": certserved.wrong([each], fingerprint, 0)} for each in wish.verify]
    return {**described(name), "endpoints": endpoints}
