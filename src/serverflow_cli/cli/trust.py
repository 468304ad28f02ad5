"""`sf trust`: who may do what."""

from __future__ import annotations

import typer

from .session import Session


def show(context: typer.Context) -> int:
    """Show the root fingerprints, and which keys may act where and until when."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.trust_show))


COMMANDS = {"show": show}
