"""Certificate and key in their place, both at once: a folder for each version, and a link to the one that counts.

/etc/serverflow/certs/NAME is the link. rename(2) puts the next in the place of the last, so whoever opens both files
finds a pair, but in the one case that he opened the first before and the second after: then he is told to read again.
A crash before it leaves the old ones served, and a folder that the next version sweeps away.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil

import layout
import store
from serverflow_actions.kit import grammar

KEY, CHAIN = "privkey.pem", "fullchain.pem"
_NEW = ".new"


def begin(name: str) -> str:
    """An empty folder for the next version, root's alone. Raises OSError."""
    os.makedirs(layout.CERTS, mode=0o755, exist_ok=True)
    os.makedirs(layout.CERT_VERSIONS, mode=0o700, exist_ok=True)
    version = f"{grammar.name(name)}.{store.new_id()}{_NEW}"
    os.mkdir(f"{layout.CERT_VERSIONS}/{version}", 0o700)
    return version


def path(version: str, file: str) -> str:
    return f"{layout.CERT_VERSIONS}/{version}/{file}"


def finish(name: str, begun: str, chain: str) -> str:
    """Add the chain to the key, and make both the version that counts; its folder. Raises OSError."""
    store.write_file(path(begun, CHAIN), chain.encode(), 0o644)
    with open(path(begun, KEY), "rb") as file:
        os.fsync(file.fileno())
    version = begun[: -len(_NEW)]
    os.rename(f"{layout.CERT_VERSIONS}/{begun}", f"{layout.CERT_VERSIONS}/{version}")
    store.sync_folder(layout.CERT_VERSIONS)
    link(name, version)
    return version


def link(name: str, version: str) -> None:
    """Have this version count; with "" none does. Raises OSError."""
    place = f"{layout.CERTS}/{grammar.name(name)}"
    if not version:
        os.unlink(place)
        return
    temporary = f"{layout.CERTS}/.{name}.{secrets.token_hex(6)}"
    os.symlink(f".versions/{version}", temporary)
    try:
        os.rename(temporary, place)
    except OSError:
        os.unlink(temporary)
        raise
    store.sync_folder(layout.CERTS)


def current(name: str) -> str:
    """The folder of the version that counts; "" where there is none, or somebody else's."""
    try:
        target = os.readlink(f"{layout.CERTS}/{grammar.name(name)}")
    except OSError:
        return ""
    version = os.path.basename(target)
    return version if target == f".versions/{version}" and is_whole(version) else ""


def is_whole(version: str) -> bool:
    """Whether key and chain of a version are there."""
    return bool(version) and all(os.path.isfile(path(version, file)) for file in (KEY, CHAIN))


def sweep(name: str) -> None:
    """Keep the version that counts and the one before it; what crashes left goes."""
    counts = current(name)
    mine = re.compile(rf"{re.escape(grammar.name(name))}\.[0-9A-HJKMNP-TV-Z]{{26}}(?:\.new)?\Z")
    found = sorted(entry for entry in _versions() if mine.match(entry) and entry != counts)
    before = [entry for entry in found if not entry.endswith(_NEW) and entry < counts][-1:]
    for entry in set(found) - set(before):
        shutil.rmtree(f"{layout.CERT_VERSIONS}/{entry}", ignore_errors=True)
    for entry in os.listdir(layout.CERTS) if os.path.isdir(layout.CERTS) else ():
        if re.match(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\Z", entry):
            with contextlib.suppress(OSError):
                os.unlink(f"{layout.CERTS}/{entry}")


def purge(name: str) -> None:
    """Certificate and key, all versions. Raises OSError."""
    if current(name):
        os.unlink(f"{layout.CERTS}/{name}")
    sweep(name)
    for entry in _versions():
        if entry.rpartition(".")[0] == name:
            shutil.rmtree(f"{layout.CERT_VERSIONS}/{entry}")


def _versions() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(layout.CERT_VERSIONS)
    return []
