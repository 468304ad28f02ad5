"""What stands at a path is kept whole, and put back whole: attributes, times, and folders that were moved away."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import restore
import snapshots


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "safe").mkdir()
    (tmp_path / "etc").mkdir()
    return tmp_path


def keep(here: Path, name: str) -> dict[str, Any]:
    return snapshots.keep(str(here / "etc" / name), str(here / "safe/0"))


def state(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }
    if path.is_symlink():
        content: Any = os.readlink(path)
    else:
        content = path.read_bytes() if path.is_file() else sorted(child.name for child in path.iterdir())
    return stat.S_IFMT(found.st_mode), found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, attributes, content


def with_attributes(path: Path) -> None:
    path.write_text("old\n")
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"mine")
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_789))


def _rewritten(path: Path) -> None:
    path.unlink()
    path.write_text("new\n")


def _dressed_otherwise(path: Path) -> None:
    path.chmod(0o600)
    os.removexattr(path, "user.note")
    os.setxattr(path, "user.other", b"theirs")


@pytest.mark.parametrize("damage", [_rewritten, _dressed_otherwise, Path.unlink, lambda path: os.truncate(path, 0)])
def test_a_file_comes_back_with_its_attributes_and_times(here: Path, damage: Any) -> None:
    path = here / "etc/file"
    with_attributes(path)
    before = state(path)
    entry = keep(here, "file")
    damage(path)
    restore.put_back(entry)
    assert state(path) == before
    restore.put_back(entry)  # once more, as after a crash
    assert state(path) == before


def test_what_was_not_there_goes_and_a_tree_with_all_in_it(here: Path) -> None:
    entry = keep(here, "new")
    tree = {**keep(here, "home"), "type": "tree"}
    (here / "etc/new").write_text("x")
    (here / "etc/home/.ssh").mkdir(parents=True)
    (here / "etc/home/.ssh/key").write_text("x")
    for each in (entry, tree, entry, tree):
        restore.put_back(each)
    assert list((here / "etc").iterdir()) == []


def test_a_folder_that_is_not_empty_is_not_taken_for_ours(here: Path) -> None:
    entry = keep(here, "new")
    (here / "etc/new").mkdir()
    (here / "etc/new/theirs").write_text("x")
    with pytest.raises(OSError, match="not empty"):
        restore.put_back(entry)
    assert (here / "etc/new/theirs").exists()


def test_links_and_folders_come_back(here: Path) -> None:
    (here / "etc/link").symlink_to("target")
    (here / "etc/folder").mkdir(mode=0o750)
    entries = [keep(here, "link"), keep(here, "folder")]
    before = [state(here / "etc/link"), state(here / "etc/folder")]
    (here / "etc/link").unlink()
    (here / "etc/link").write_text("a file now")
    (here / "etc/folder").rmdir()
    for entry in entries:
        restore.put_back(entry)
    assert [state(here / "etc/link"), state(here / "etc/folder")] == before


def test_a_folder_that_is_moved_away_comes_back(here: Path) -> None:
    home, away = here / "etc/home", here / "etc/.home.away"
    (home / "deep").mkdir(parents=True)
    (home / "deep/file").write_text("x")
    entry = snapshots.keep_folder(str(home), str(away))
    snapshots.move_aside(str(home), str(away))
    assert not home.exists()
    restore.put_back(entry)
    restore.put_back(entry)
    assert (home / "deep/file").read_text() == "x"
    assert not away.exists()


def test_what_a_rename_could_not_put_back_is_refused(here: Path) -> None:
    (here / "etc/one").write_text("x")
    os.link(here / "etc/one", here / "etc/two")
    os.mkfifo(here / "etc/pipe")
    (here / "etc/there").symlink_to(here)
    for name, why in (("one", "hard links"), ("pipe", "neither a file"), ("there/etc/one", "a part of it is a link")):
        with pytest.raises(snapshots.CannotKeep, match=why):
            keep(here, name)


def test_a_damaged_copy_is_not_put_in_place(here: Path) -> None:
    path = here / "etc/file"
    path.write_text("old")
    entry = keep(here, "file")
    path.write_text("new")
    (here / "safe/0").write_text("dam")
    with pytest.raises(OSError, match="damaged"):
        restore.put_back(entry)
    assert path.read_text() == "new"


def test_a_fingerprint_is_that_of_the_entry(here: Path) -> None:
    (here / "etc/file").write_text("x")
    (here / "etc/link").symlink_to("x")
    (here / "etc/folder").mkdir()
    for name in ("file", "link", "folder", "nothing"):
        entry = snapshots.keep(str(here / "etc" / name), str(here / f"safe/{name}"))
        assert snapshots.fingerprint(entry["path"]) == snapshots.before(entry)


def test_a_tree_of_any_depth_goes_and_no_other_file_system_with_it(here: Path) -> None:
    """Its owner makes it as deep as he likes: deeper than Python nests calls, or a process opens files."""
    tree = {**keep(here, "home"), "type": "tree"}
    os.mkdir(here / "etc/home")
    descriptor = os.open(here / "etc/home", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("x", dir_fd=descriptor)
        following = os.open("x", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = following
    os.close(descriptor)
    restore.put_back(tree)
    assert not (here / "etc/home").exists()


def test_what_its_owner_puts_in_the_place_of_a_file_keeps_nobody_busy(here: Path) -> None:
    """A pipe that is held open, a file larger than the disk."""
    pipe, huge = here / "etc/pipe", here / "etc/huge"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    huge.touch()
    os.truncate(huge, 1 << 40)
    try:
        for path in (pipe, huge):
            assert snapshots.fingerprint(str(path)) == "other"
            with pytest.raises(snapshots.CannotKeep):
                snapshots.keep(str(path), str(here / "safe/0"))
        assert list((here / "safe").iterdir()) == []
    finally:
        os.close(held)


def test_a_name_beside_it_that_somebody_has_taken_is_not_needed(here: Path) -> None:
    path = here / "etc/link"
    path.symlink_to("target")
    entry = keep(here, "link")
    path.unlink()
    (here / "etc/.link.serverflow-restore").mkdir()
    restore.put_back(entry)
    assert os.readlink(path) == "target"


def test_what_was_cut_off_while_it_was_written_goes(here: Path) -> None:
    entry = keep(here, "file")
    (here / "etc/.file.0123456789ab").write_text("half")
    (here / "etc/.file.theirs").write_text("x")
    restore.put_back(entry)
    assert [path.name for path in (here / "etc").iterdir()] == [".file.theirs"]


def test_a_folder_that_was_moved_away_and_is_gone_is_told(here: Path) -> None:
    home, away = here / "etc/home", here / "etc/.home.away"
    home.mkdir()
    entry = snapshots.keep_folder(str(home), str(away))
    snapshots.move_aside(str(home), str(away))
    away.rmdir()
    with pytest.raises(FileNotFoundError, match="not there any more"):
        restore.put_back(entry)


def test_a_link_to_what_is_no_text_is_refused(here: Path) -> None:
    os.symlink(b"\xff", here / "etc/link")
    with pytest.raises(snapshots.CannotKeep, match="UTF-8"):
        keep(here, "link")


def test_what_is_moved_to_another_place_is_whole(here: Path) -> None:
    (here / "etc/folder/deep").mkdir(parents=True)
    snapshots.move(str(here / "etc/folder"), str(here / "safe/kept"))
    assert (here / "safe/kept/deep").is_dir()
