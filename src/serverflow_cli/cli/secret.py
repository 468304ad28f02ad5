"""`sf secret`: values sealed to the operators, in secrets.toml."""

from __future__ import annotations

from typing import Annotated

import typer

from .session import Session


def list_(context: typer.Context) -> int:
    """List the secrets, and who can open each."""
    session: Session = context.obj
    return session.finish(session.in_workspace(session.flows.secret_list))


def show(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The secret's name")]) -> int:
    """Open a secret with your own key and print it."""
    session: Session = context.obj
    return session.finish(session.in_workspace(lambda w: session.flows.secret_show(w, name)))


COMMANDS = {"list": list_, "show": show}
