"""`sf file put`: the one command of its area whose content is here and not on the servers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from serverflow_actions import registry

from ..errors import UsageError
from ..ui.units import size
from .generated import run
from .options import ConfirmWithin, LockWait, NoConfirm, On, Plan, Safe, Timeout, Yes
from .session import Session

#: The server holds it in memory while it writes, and file.put may use 256 MiB there.
_LARGEST = 64 << 20


def put(
    context: typer.Context,
    app: Annotated[str, typer.Argument(metavar="APP", help="App whose file it becomes")],
    local: Annotated[str, typer.Argument(metavar="FILE", help="File on this machine; - is stdin")],
    path: Annotated[
        str, typer.Argument(metavar="REMOTE-PATH", help="Where, inside the app's data; relative to its first folder")
    ],
    *,
    on: On,
    mode: Annotated[str, typer.Option("--mode", metavar="MODE", help="File mode [default: 0640]")] = "0640",
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Put a file of at most 64 MiB into an app's data."""
    session: Session = context.obj
    content = _content(session, local)
    # The signed command names the content by its hash; the bytes follow it, and for a plan they stay here.
    params = {"app": app, "path": path, "sha256": hashlib.sha256(content).hexdigest(), "mode": mode}
    return run(
        session,
        registry.load("file.put"),
        params,
        {},
        on=on,
        plan=plan,
        yes=yes,
        safe=safe,
        confirm_within=confirm_within,
        no_confirm=no_confirm,
        timeout=timeout,
        lock_wait=lock_wait,
        blobs=(content,),
    )


def _content(session: Session, local: str) -> bytes:
    """The bytes of the file. Raises UsageError."""
    try:
        if local == "-":
            content = session.terminal.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(local).open("rb") as file:
                content = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{local} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > _LARGEST:
        raise UsageError(f"{local} is larger than {size(_LARGEST)}")
    return content


COMMANDS = {"put": put}
