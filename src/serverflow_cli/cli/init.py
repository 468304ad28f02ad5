"""`sf init`."""

from __future__ import annotations

from typing import Annotated

import typer

from .session import Session


def init(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="The new fleet's folder")] = ".",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Who you are in the trust file (else your login)")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="An Ed25519 key to sign with, or the .pub of one in ssh-agent (else one is made)",
        ),
    ] = None,
) -> int:
    """Start a fleet: a folder with fleet.toml, and a trust file that your key signs."""
    session: Session = context.obj
    result = session.run(session.flows.init(path, key=key, name=name, ask=session.ask))
    return session.finish(result)


COMMANDS = {"init": init}
