"""What a safe change has to know of a step before it is applied: what to keep, so that all can be put back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .refused import Refused


class Footprint(NamedTuple):
    """Everything that a step may leave otherwise than it found it.

    paths     files, links and folders (their mode and owner, not what is in them), or nothing: kept as they are now
    trees     nothing is there now; on rollback whatever is there goes, with all in it
    aside     folders that the change removes: moved away, and deleted once it is confirmed
    units     systemd units, whose running and enabled state is kept
    accounts  passwd(5), shadow(5), group(5), gshadow(5), subuid(5) and subgid(5)
    after     what is done once the files are back, by name: see remote/rollback.py
    """

    paths: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    accounts: bool = False
    after: tuple[str, ...] = ()


def total(footprints: Iterable[Footprint]) -> Footprint:
    """All of them as one, each entry once, in order.

    Paths below a tree are left out: they go with it. In `aside` a folder comes before those in it: so they are put
    back.
    """
    found = list(footprints)

    def union(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry for each in found for entry in getattr(each, name)))

    trees = union("trees")
    paths = tuple(path for path in union("paths") if not _below(path, trees))
    accounts = any(each.accounts for each in found)
    return Footprint(paths, trees, tuple(sorted(union("aside"))), union("units"), accounts, union("after"))


def covers(whole: Footprint, part: Footprint) -> bool:
    """Whether nothing in `part` is missing from `whole`; a tree holds all paths below it."""
    lists = ("trees", "aside", "units", "after")
    return (
        all(set(getattr(part, name)) <= set(getattr(whole, name)) for name in lists)
        and all(path in whole.paths or _below(path, whole.trees) for path in part.paths)
        and (whole.accounts or not part.accounts)
    )


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


def irreversible(reason: str) -> Refused:
    """The refusal of a step that cannot be taken back."""
    return Refused(f"this cannot be undone, so it cannot be a safe change: {reason}", "unsupported")
