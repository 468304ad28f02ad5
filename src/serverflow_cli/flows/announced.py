"""Host keys that servers announced when they were last checked from here. A memory for people: nothing is decided by
it, since whoever is root on a server announces what they like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .workspace import Workspace

if TYPE_CHECKING:
    from ..rpc.hello import Link


class Announced:
    """The record of one fleet on this machine: server id → host keys that are not pinned."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.state / "announced.json"

    def of(self, server_id: str) -> list[str]:
        """What this server announced."""
        return self._read().get(server_id, [])

    def keep(self, heard: Mapping[str, Sequence[str]]) -> None:
        """What these servers announce now, in place of what they did before."""
        from ..config.atomic import write_atomic

        before = self._read()
        now = {server: list(keys) for server, keys in {**before, **heard}.items() if keys}
        if now != before:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(now).encode(), 0o600)

    def _read(self) -> dict[str, list[str]]:
        try:
            return dict(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return {}


def on_keys(link: Link, announced: Sequence[str]) -> tuple[str, ...]:
    """Remarks: one of its keys is being rotated, or it announces a host key that nobody has pinned."""
    from ..trust.keys import ssh_fingerprint

    rotated = (("--identity", link.also), ("--host-keys", len(link.endpoint.host_keys) > 1))
    return (
        *(
            f"a key of it is being rotated; to finish: sf server rekey {link.name} {which}"
            for which, is_so in rotated
            if is_so
        ),
        *(
            f"it announces the host key {ssh_fingerprint(key)}, which is not pinned and not trusted"
            for key in announced
        ),
    )
