"""What of the file our key can apply. A deploy key may not change secrets, and need not open all of them: what it can
have no part in is left out, and told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TrustError
from ..plan.proofs import by_hand, power
from ..plan.wishes import crowded
from . import proof_keys, sealing, vault
from .issuing import missing
from .stages import is_certificate, is_route
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..model.result import Report, ServerResult
    from ..plan.resource import Resource


class Scope(NamedTuple):
    """`keys` are new ones by which servers prove their names; `notes` tell what is left out, and why. Servers that are
    `away` did not answer when they were asked for certificates.
    """

    due: Sequence[Resource]
    left_out: Collection[tuple[str, str]]
    keys: Mapping[str, str]
    notes: Sequence[str]
    away: Mapping[str, ServerResult]

    def has(self, resource: Resource) -> bool:
        """Whether it is not left out."""
        return (resource.server, resource.key) not in self.left_out


async def scope(workspace: Workspace, asked: Sequence[Resource], report: Report) -> Scope:
    """Without the certificates whose keys we may not make or cannot open, or whose name server is not asked for with
    them; and without the routes that need one of these which is not there yet.
    """
    keys = proof_keys.made(workspace, workspace.fleet)
    why = {(each.server, each.key): text for each in asked if (text := _why_not(workspace, each, asked, keys))}
    possible = [each for each in asked if is_certificate(each) and (each.server, each.key) not in why]
    ours, notes = sealing.openable(workspace, possible, keys)
    closed = [each for each in asked if is_certificate(each) and each not in ours]
    absent, away = await missing(workspace, closed, report)
    for each in asked:
        if is_route(each) and (each.server, each.params.get("certificate")) in absent:
            why[each.server, each.key] = "its certificate is not there yet"
    notes += [f"{server}: {key} is left out: {text}" for (server, key), text in why.items()]
    left_out = {*why, *((each.server, each.key) for each in closed)}
    notes += crowded(workspace.fleet) if any(map(is_certificate, asked)) else []
    due = [each for each in asked if (each.server, each.key) not in left_out]
    notes += by_hand(workspace.fleet, [each for each in due if keys.keys().isdisjoint(each.secrets.values())])
    used = {name for each in due for name in each.secrets.values()}
    return Scope(due, left_out, {name: key for name, key in keys.items() if name in used}, notes, away)


def powers(fleet: Fleet, resources: Iterable[Resource]) -> list[str]:
    """What a thief of the servers of these certificates could do, and what is to be made by hand for these names."""
    found = list(resources)
    servers = dict.fromkeys(each.server for each in found if is_certificate(each))
    return [*(power(fleet, server) for server in servers), *by_hand(fleet, found)]


def _why_not(workspace: Workspace, resource: Resource, asked: Iterable[Resource], keys: Mapping[str, str]) -> str:
    """What stands against one that needs a new key; "" when nothing does."""
    new = keys.keys() & set(resource.secrets.values())
    if not new:
        return ""
    try:
        vault.check_may_sign(workspace)
    except TrustError as error:
        if error.code != "not-granted":
            raise
        return f"it needs a new key, and {error.message}"
    brought = {name for each in asked if not is_certificate(each) for name in each.secrets.values()}
    return "" if new <= brought else "its new key has to come to the name server too: sf apply, without --on and --only"
