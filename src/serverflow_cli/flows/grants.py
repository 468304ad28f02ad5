"""What a grant says once it is signed: action names and server ids, nothing that could grow by itself."""

from __future__ import annotations

from serverflow_actions import registry


def every_action() -> list[str]:
    """All actions of this registry. A later bundle's new ones need a new signature (`sf server update` asks for it)."""
    return list(registry.names())
