"""The SSH host key's part of `server.rekey`. Activation is a safe change: whoever cannot log in over the new key does
not confirm it, and the server goes back to the old one by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from typing import Any

import layout
import safe
import store
from messages import Denied
from units import told

Answer = tuple[str, dict[str, Any]]
CONFIRM_S = 120
#: What runs between arming and the answer ends well before the deadline.
_PROGRAM_S = 20


def perform(stage: str, key: str, op_id: str) -> Answer:
    """Raises Denied."""
    if stage == "discard":
        return _discard()
    active = _active()
    _tidy()
    return _prepare(active) if stage == "prepare" else _activate(active, key, op_id)


def public_half(path: str) -> str:
    """`ssh-ed25519 AAAA…`, from the private key itself: the file beside it may be of another time."""
    return " ".join(_run("ssh-keygen", "-y", "-f", path).split()[:2])


def make(path: str, comment: str) -> None:
    """A new Ed25519 key. Whole or not there: it gets its name last."""
    temporary = f"{path}.making"
    for leftover in (temporary, f"{temporary}.pub"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.unlink(f"{temporary}.pub")
    os.rename(temporary, path)
    store.sync_folder(os.path.dirname(path))


def _prepare(active: str) -> Answer:
    made = not os.path.exists(layout.HOST_KEY_NEXT)
    if made:
        make(layout.HOST_KEY_NEXT, f"root@{os.uname().nodename}")
    return "done" if made else "unchanged", {"active": active, "next": public_half(layout.HOST_KEY_NEXT)}


def _discard() -> Answer:
    try:
        os.unlink(layout.HOST_KEY_NEXT)
    except FileNotFoundError:
        return "unchanged", {}
    store.sync_folder(os.path.dirname(layout.HOST_KEY_NEXT))
    return "done", {}


def _activate(active: str, key: str, op_id: str) -> Answer:
    if active == key:
        return "unchanged", {"active": active}
    if not os.path.exists(layout.HOST_KEY_NEXT) or public_half(layout.HOST_KEY_NEXT) != key:
        raise Denied("bad-params", "the key that this command names is not prepared here")
    files = [layout.HOST_KEY, f"{layout.HOST_KEY}.pub", layout.HOST_KEY_NEXT]
    try:
        safe.change(op_id, "server.rekey", files, ["reload-ssh"], CONFIRM_S, lambda: _switch(key))
    except safe.NotPending as error:
        raise Denied("unsupported", str(error)) from None
    except safe.Unsafe as error:
        raise Denied("action-failed", str(error)) from error
    return "pending-confirm", {"active": key}


def _switch(key: str) -> None:
    store.write_file(layout.HOST_KEY, store.read_file(layout.HOST_KEY_NEXT) or b"")
    os.unlink(layout.HOST_KEY_NEXT)
    store.write_file(f"{layout.HOST_KEY}.pub", f"{key} root@{os.uname().nodename}\n".encode(), 0o644)
    _run("sshd", "-t")
    _run("systemctl", "reload", "ssh.service")


def _active() -> str:
    """The host key that sshd shows to clients that ask for Ed25519. Raises Denied where that is not the usual file: a
    guess could end every login.
    """
    try:
        said = _run("sshd", "-T", "-C", f"user={layout.LOGIN_USER},host=localhost,addr=127.0.0.1")
    except (OSError, subprocess.SubprocessError) as error:
        raise Denied("unsupported", f"sshd's configuration cannot be read: {told(error)}") from None
    settings = [line.split(" ", 1) for line in said.splitlines() if " " in line]
    values: dict[str, list[str]] = {}
    for keyword, value in settings:
        values.setdefault(keyword.lower(), []).append(value)
    others = [path for path in values.get("hostkey", ()) if path != layout.HOST_KEY and _is_ed25519(path)]
    plain = os.path.isfile(layout.HOST_KEY) and not os.path.islink(layout.HOST_KEY)
    if layout.HOST_KEY not in values.get("hostkey", ()) or not plain or others:
        raise Denied(
            "unsupported", f"sshd's one Ed25519 host key is not {layout.HOST_KEY}; see HostKey in its settings"
        )
    if values.get("hostkeyagent", ["none"]) != ["none"] or "hostcertificate" in values:
        raise Denied("unsupported", "sshd uses HostKeyAgent or HostCertificate; those keys are not ours to change")
    return public_half(layout.HOST_KEY)


def _is_ed25519(path: str) -> bool:
    """A private key that needs a passphrase, or is not there, is none that sshd could show."""
    try:
        return public_half(path).startswith("ssh-ed25519 ")
    except (OSError, subprocess.SubprocessError):
        return False


def _tidy() -> None:
    """What commands left that were killed: snapshots, and half-written files. They may hold private keys."""
    safe.tidy()
    folder, name = os.path.split(layout.HOST_KEY)
    for entry in os.listdir(folder):
        if re.fullmatch(rf"\.{name}[a-z.-]*\.[0-9a-f]{{12}}", entry):
            os.unlink(f"{folder}/{entry}")


def _run(*argv: str) -> str:
    """What the program printed. Raises OSError or SubprocessError."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, env=layout.ENVIRONMENT, check=True, timeout=_PROGRAM_S
    )
    return done.stdout.decode("utf-8", "replace")
