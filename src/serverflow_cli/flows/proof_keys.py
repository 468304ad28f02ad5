"""Keys by which servers change their zones of proofs, for certificates: made and sealed here, brought to both sides,
and taken from both when the server is gone.
"""

from __future__ import annotations

import base64
import re
import secrets as random
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from serverflow_actions import registry
from serverflow_actions.kit.change import Change

from ..config.references import references
from ..model.result import CommandResult, Reply, Report, ServerResult
from ..plan.proofs import PROOFS, SHARED_KEYS, challenges, secret_of
from . import sealing, unmanaged, vault
from .safe import USUAL
from .stages import together
from .stanza import take_away
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: What a primary has applied for a zone of proofs.
_APPLIED = re.compile(rf"dns\.(?:zone|update-key)\.([a-z0-9-]+\.(?:{'|'.join(PROOFS)})\..+)")


def made(workspace: Workspace, fleet: Fleet) -> dict[str, str]:
    """New keys where one is needed and there is none, by their names in secrets.toml."""
    needed = dict.fromkeys(each.secret for each in challenges(fleet).values())
    known = vault.read(workspace).boxes if needed else {}
    # As long as the hash, RFC 8945 section 6.
    return {secret: base64.b64encode(random.token_bytes(32)).decode() for secret in needed if secret not in known}


def keep(workspace: Workspace, keys: Mapping[str, str]) -> None:
    """Before any server hears of them: a key that is lost would have to be replaced on both sides."""
    if keys:
        sealing.store(workspace, keys)


def forget(workspace: Workspace, servers: Collection[str]) -> None:
    """Take out the keys of these servers, and keys of sets of servers that do not share a name any more: whoever has
    the disk of one that is gone must not have the key of what comes after it. Raises SfError.
    """
    boxes = vault.read(workspace).boxes
    known = {*map(secret_of, servers), *(name for name in boxes if name.startswith(SHARED_KEYS))}
    known -= {each.secret for each in challenges(workspace.fleet).values() if set(servers).isdisjoint(each.servers)}
    known -= references(workspace.fleet).keys()
    if not known.isdisjoint(boxes):
        vault.change(workspace, lambda boxes: {name: held for name, held in boxes.items() if name not in known})


async def planned(workspace: Workspace, report: Report) -> CommandResult:
    """What `drop` would take away."""
    found, _ = await _left(workspace, report)
    changes: dict[str, list[Change]] = {}
    for server, zone in found:
        changes.setdefault(server, []).extend((Change("delete", "zone", zone), Change("delete", "tsig-key", zone)))
    rows = tuple(ServerResult(server, Reply("", "done", tuple(each))) for server, each in changes.items())
    return CommandResult(workspace.label, servers=rows)


async def drop(
    workspace: Workspace, lock_wait_s: int, report: Report, only: Collection[str] | None = None
) -> CommandResult:
    """Take zones of proofs that no certificate needs any more, and their keys, off the primaries: all, or `only` these.
    What cannot be done is found again by the next one.
    """
    found, silent = await _left(workspace, report)
    found = [each for each in found if only is None or each[1] in only]
    done = CommandResult(workspace.label, servers=tuple(silent))
    for server, zone in found:
        for name, params, key in (
            ("dns.zone-remove", {"zone": zone}, f"dns.zone.{zone}"),
            ("dns.key-remove", {"name": zone}, f"dns.update-key.{zone}"),
        ):
            if any(row.name == server for row in done.failures):
                continue
            action = registry.load(name)
            made = await take_away(
                workspace,
                action,
                params,
                [server],
                key,
                [],
                plan=False,
                approve=lambda _: True,
                timeout_s=action.timeout,
                lock_wait_s=lock_wait_s,
                report=report,
                safety=USUAL,
            )
            done = together(done, made)
    return done


async def _left(workspace: Workspace, report: Report) -> tuple[list[tuple[str, str]], list[ServerResult]]:
    """Servers and their zones of proofs that nobody needs, and the servers that could not be asked."""
    providers = workspace.fleet.dns.providers.values()
    primaries = dict.fromkeys(each.on for each in providers if each.provider == "powerdns")
    if not primaries:
        return [], []
    async with workspace.caller() as caller:
        found, silent = await unmanaged.find(workspace, caller, ",".join(primaries), report)
    zones = [(each.server, known[1]) for each in found if (known := _APPLIED.fullmatch(each.key))]
    return list(dict.fromkeys(zones)), silent
