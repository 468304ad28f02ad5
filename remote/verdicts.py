"""Confirmed, or rolling back: whoever comes first decides which, and once that is carried out the change waits no more.

Whoever calls this is alone (armed.alone).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import applied
import armed
import layout
import restore
import rollback
import store
import written

VERDICTS_KEPT = 50


def decide(op_id: str, verdict: str) -> None:
    """A link to a file that is whole since the change was armed: whoever reads the verdict reads all of it, also after
    a crash, and it takes no room. Raises NotPending.
    """
    if armed.pending() != op_id:
        raise armed.NotPending(f"no change {op_id} waits for confirmation")
    rollback.with_room(lambda: os.link(f"{armed.folder(op_id)}/is-{verdict}", f"{armed.folder(op_id)}/verdict"))
    store.sync_folder(armed.folder(op_id))


def end(op_id: str) -> list[str]:
    """It waits no more; only the verdict is kept. Copies of what stood there may be private keys: they must not outlive
    their use. In this order, so that a crash in between leads here again. Returns what could not be removed.
    """
    left: list[str] = []
    try:
        manifest = armed.manifest_of(op_id) if armed.verdict_of(op_id) == b"confirmed" else None
    except armed.NotPending:  # it was here before
        manifest = None
    if manifest:
        _take_into_the_records(manifest)
    clear(op_id)
    if manifest:
        left = _remove_asides(manifest)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(armed.folder(op_id)):
            if name != "verdict":
                os.unlink(f"{armed.folder(op_id)}/{name}")
    return left


def _take_into_the_records(manifest: Mapping[str, Any]) -> None:
    """What counts only now that it is confirmed. A full disk costs a record, not the confirmation."""
    then = json.loads(store.read_file(f"{armed.folder(manifest['op_id'])}/then") or b"{}")
    with contextlib.suppress(OSError):
        written.remember(then.get("written", {}))
        if then.get("base"):
            applied.record(then["base"]["resource"], then["base"]["to"])


def _remove_asides(manifest: Mapping[str, Any]) -> list[str]:
    """The folders that were moved away, for good. Whatever keeps us from it keeps no change waiting."""
    left = []
    for entry in manifest["paths"]:
        if entry["type"] == "aside":
            try:
                restore.put_back({"path": entry["aside"], "type": "tree"})
            except OSError as error:
                left.append(f"{entry['aside']}: {error.strerror or error}")
    return left


def clear(op_id: str) -> None:
    """Nothing waits any more, if it is this one that does."""
    if armed.pending() == op_id:
        os.unlink(f"{layout.SAFE}/pending")
        store.sync_folder(layout.SAFE)


def tidy() -> None:
    """Nothing waits, so whatever is left is over. Verdicts stay for a while: whoever lost the answer asks again."""
    decided = []
    for name in os.listdir(layout.SAFE):
        if os.path.isdir(armed.folder(name)):
            with contextlib.suppress(OSError):
                end(name)  # a confirmation that was cut off still has folders to remove
            if armed.verdict_of(name):
                decided.append((os.stat(armed.folder(name)).st_mtime_ns, name))
            else:
                shutil.rmtree(armed.folder(name), ignore_errors=True)
    for _, name in sorted(decided)[:-VERDICTS_KEPT]:
        shutil.rmtree(armed.folder(name), ignore_errors=True)
