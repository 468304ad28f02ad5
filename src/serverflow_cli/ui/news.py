"""A result for whoever has just asked for the change: only what neither the request nor the plan has told.

`--json` has all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..model.result import Reply, ServerResult
from .units import is_none

#: A change by server, kind and name.
Shown = tuple[str, str, str]

#: What actions repeat of their parameters, and what is for whoever looks into one thing: `sf cert list` and the like.
_KNOWN = frozenset((
    "certificate", "names",  # cert.set
    "ari", "attempted_at", "directory", "explanation", "failures", "fingerprint", "installed_at", "issuer",
    "not_before", "rehearsed_at", "serial", "why", "window",  # cert.issue, cert.renew, cert.revoke
    "enabled", "job",  # cron.add, cron.command
    "algorithm", "key", "kind", "revision", "zone",  # dns.change, dns.key, dns.update-key, dns.zone
    "channel", "rules",  # notify.set
    "hosts",  # route.set
))  # fmt: skip
#: Of a certificate, by the names that `sf cert list` has for them. What is not served says why: `not_served`.
_CERTIFICATE = {"name": "certificate", "not_after": "ends_at", "next": "renews_at", "served": "served", "path": "path"}


def shown_in(servers: Collection[ServerResult]) -> set[Shown]:
    """The changes that a plan shows."""
    return {
        (server.name, change.kind, change.name) for server in servers if server.reply for change in server.reply.changes
    }


def without_details(server: ServerResult, shown: Collection[Shown]) -> ServerResult:
    """A line for each change that was `shown` before, with its diff. The others keep theirs."""
    if not server.reply or not shown:
        return server
    changes = tuple(
        change._replace(fields={}, diff="") if (server.name, change.kind, change.name) in shown else change
        for change in server.reply.changes
    )
    return replace(server, reply=replace(server.reply, changes=changes))


def without_known(server: ServerResult) -> ServerResult:
    """The data that is news: not what was asked for, what is empty, or what a note tells as well."""
    if not server.reply or not server.reply.data:
        return server
    return replace(server, reply=replace(server.reply, data=_news(server.reply)))


def _news(reply: Reply) -> Mapping[str, Any]:
    told: dict[str, Any] = dict(reply.data)
    first: dict[str, Any] = {}
    if "not_after" in told:
        of_it = {ours: told.pop(field, None) for field, ours in _CERTIFICATE.items()}
        first = {field: value for field, value in of_it.items() if value}
    if isinstance(told.get("warnings"), list):
        told["warnings"] = [each for each in told["warnings"] if not _is_noted(each, reply)]
    left = {field: value for field, value in told.items() if field not in _KNOWN and not is_none(field, value)}
    return {**first, **left}


def _is_noted(warning: object, reply: Reply) -> bool:
    """Notes name the resource first."""
    return any(note.endswith(f": {warning}") for note in reply.notes)
