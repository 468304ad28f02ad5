"""What a safe change keeps beside the values that it sets (remote/cascades.py), with this machine's own interfaces."""

from __future__ import annotations

from pathlib import Path

import cascades
import restore
import snapshots

FOUR = "/proc/sys/net/ipv4"
#: Those that are here all the time: containers of others come and go, and their interfaces with them.
LASTING = {"lo", "all", "default"}


def interfaces(kept: list[str], value: str) -> set[str]:
    return {Path(path).parent.name for path in kept if path.startswith(f"{FOUR}/conf/") and path.endswith(f"/{value}")}


def test_what_is_set_for_all_is_kept_of_each_interface() -> None:
    for which in ("all", "default"):
        kept = cascades.expand(["/etc/f", f"{FOUR}/conf/{which}/rp_filter"])
        assert interfaces(kept, "rp_filter") >= LASTING
        assert len(kept) == len(interfaces(kept, "rp_filter")) + 1 and "/etc/f" in kept
    assert f"{FOUR}/neigh/lo/gc_stale_time" in cascades.expand([f"{FOUR}/neigh/default/gc_stale_time"])


def test_forwarding_takes_everything_along_that_the_kernel_changes_with_it() -> None:
    kept = cascades.expand([f"{FOUR}/ip_forward"])
    assert interfaces(kept, "forwarding") >= LASTING
    assert f"{FOUR}/conf/all/accept_redirects" in kept


def test_what_changes_others_is_put_back_before_them() -> None:
    """The last is put back first."""
    kept = cascades.expand([f"{FOUR}/conf/all/forwarding", f"{FOUR}/conf/lo/forwarding", "/etc/f"])
    where = {path: kept.index(path) for path in kept}
    assert where[f"{FOUR}/conf/lo/forwarding"] < where[f"{FOUR}/conf/default/forwarding"]
    assert where[f"{FOUR}/conf/default/forwarding"] < where[f"{FOUR}/conf/all/forwarding"]
    assert where[f"{FOUR}/conf/all/accept_redirects"] < where[f"{FOUR}/conf/all/forwarding"]


def test_other_paths_and_one_interface_stay_alone() -> None:
    paths = [f"{FOUR}/conf/lo/rp_filter", "/proc/sys/vm/swappiness", "/etc/all/x"]
    assert cascades.expand(paths) == paths
    ratio = "/proc/sys/vm/dirty_ratio"
    assert cascades.expand([ratio]) == [ratio, "/proc/sys/vm/dirty_bytes"]


def test_an_interface_that_is_gone_leaves_nothing_to_put_back(tmp_path: Path) -> None:
    entry = snapshots.keep(f"{FOUR}/conf/lo/rp_filter", str(tmp_path / "unused"))
    restore.put_back({**entry, "path": f"{FOUR}/conf/gone0/rp_filter"})
