"""What people are told of certificates: cert.failed, cert.not_served and cert.expiring (kit/events.py)."""

from __future__ import annotations

import time

import alerts
import certdue
from certs import State


def damaged(name: str, said: str) -> None:
    title = f"The settings of certificate {name} are damaged, and it is not renewed"
    alerts.emit("cert.failed", f"cert.failed/{name}/settings", title, said, {"certificate": name})


def in_order(name: str) -> None:
    """Its settings."""
    _resolve("cert.failed", f"{name}/settings", f"The settings of certificate {name} are in order", name)


def failed(name: str, known: State) -> None:
    """An attempt, which `known` knows of."""
    until = f"The one that is served counts until {alerts.rfc3339(known.not_after)}." if known.not_after else ""
    title = f"Certificate {name} was not {'renewed' if known.made_for else 'issued'}"
    data = {
        "certificate": name,
        "failures": known.failures,
        "not_after": known.not_after and alerts.rfc3339(known.not_after),
    }
    alerts.emit("cert.failed", f"cert.failed/{name}", title, f"{known.said}\n\n{until}".strip(), data)


def not_served(name: str, known: State) -> None:
    alerts.emit(
        "cert.not_served", f"cert.not_served/{name}", f"Certificate {name} was renewed, and is not served",
        known.not_served,
        {"certificate": name, "serial": known.serial, "not_after": alerts.rfc3339(known.not_after)},
    )  # fmt: skip


def served(name: str, known: State) -> None:
    """What was open about it is over; but for attempts that failed since it was issued."""
    for kind in ("not_served",) if known.failures else ("failed", "expiring", "not_served"):
        _resolve(f"cert.{kind}", name, f"Certificate {name} counts until {alerts.rfc3339(known.not_after)}", name)


def expiring(name: str, known: State) -> None:
    """When it is (certdue.expiring_from)."""
    now = int(time.time())
    if not known.made_for or now < certdue.expiring_from(known):
        return
    when = alerts.rfc3339(known.not_after)
    over = known.not_after <= now
    title = f"Certificate {name} {'expired at' if over else 'expires at'} {when}"
    data = {"certificate": name, "not_after": when, "failures": known.failures}
    severity = "critical" if over else None
    alerts.emit("cert.expiring", f"cert.expiring/{name}", title, known.said, data, severity=severity)


def rehearsed(name: str, said: str) -> None:
    """`said` is why it failed, "" for one that went well."""
    key = f"{name}/rehearsal"
    if not said:
        _resolve("cert.failed", key, f"The rehearsal of certificate {name} works", name)
        return
    title = f"The rehearsal of certificate {name} failed; the one in use is not touched"
    alerts.emit("cert.failed", f"cert.failed/{key}", title, said, {"certificate": name}, severity="warning")


def _resolve(kind: str, about: str, title: str, name: str) -> None:
    alerts.emit(kind, f"{kind}/{about}", title, data={"certificate": name}, state="resolved")
