"""The real Probe and Host, on files of our own: what a link, a pipe or a race may not do."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serverflow_actions.kit.host import HostError, LocalHost, LocalProbe, run_program

ME = pwd.getpwuid(os.getuid()).pw_name
US = grp.getgrgid(os.getgid()).gr_name
HOST = LocalHost()


def write(path: Path, data: bytes = b"new", mode: int = 0o640) -> None:
    HOST.write(str(path), data, mode, ME, US)


def test_write_replaces_content_and_mode(tmp_path: Path) -> None:
    write(tmp_path / "f", b"one", 0o644)
    write(tmp_path / "f", b"two", 0o600)
    state = HOST.stat(str(tmp_path / "f"))
    assert state and (state.kind, state.mode, state.owner, state.size) == ("file", 0o600, ME, 3)
    assert (tmp_path / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_write_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "target").read_text() == "old"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("act", ["write", "make", "own", "remove", "remove_tree", "digest", "read"])
def test_no_link_on_the_way_is_followed(tmp_path: Path, act: str) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "f").write_text("old")
    (tmp_path / "link").symlink_to("real")
    path, folder = str(tmp_path / "link" / "f"), str(tmp_path / "link" / "inner")
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: HOST.write(path, b"new", 0o600, ME, US),
        "make": lambda: HOST.make_folder(path + "older", 0o700, ME, US),
        "own": lambda: HOST.own(path, 0o777, ME, US),
        "remove": lambda: HOST.remove(path),
        "remove_tree": lambda: HOST.remove_tree(folder),
        "digest": lambda: HOST.digest(path),
        "read": lambda: HOST.read(path, follow=False),
    }
    with pytest.raises(HostError, match="a part of it is a link"):
        acts[act]()
    assert (tmp_path / "real" / "f").read_text() == "old"
    assert (tmp_path / "real" / "inner").is_dir()


def test_own_and_read_refuse_a_link_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(HostError):
        HOST.own(str(tmp_path / "link"), 0o777, ME, US)
    with pytest.raises(HostError):
        HOST.read(str(tmp_path / "link"), follow=False)
    assert HOST.read(str(tmp_path / "link")) == b"old"


def test_remove_tree_removes_links_and_not_what_they_point_to(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "f").write_text("kept")
    (tmp_path / "gone" / "deep").mkdir(parents=True)
    (tmp_path / "gone" / "deep" / "link").symlink_to(tmp_path / "keep")
    for number in range(300):
        (tmp_path / "gone" / str(number)).write_text("x")
    HOST.remove_tree(str(tmp_path / "gone"), keep_root=True)
    assert os.listdir(tmp_path / "gone") == []
    HOST.remove_tree(str(tmp_path / "gone"))
    HOST.remove_tree(str(tmp_path / "gone"))
    assert (tmp_path / "keep" / "f").read_text() == "kept"
    assert not (tmp_path / "gone").exists()


def test_removing_what_is_not_there_is_quiet_and_writing_there_is_not(tmp_path: Path) -> None:
    HOST.remove(str(tmp_path / "no" / "f"))
    HOST.remove_tree(str(tmp_path / "no" / "d"))
    with pytest.raises(HostError, match="its folder does not exist"):
        write(tmp_path / "no" / "f")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such user or group"):
        HOST.write(str(tmp_path / "f"), b"x", 0o600, "no-such-user", US)
    assert os.listdir(tmp_path) == []


def test_a_pipe_does_not_block_a_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (HOST.read, HOST.digest):
        with pytest.raises(HostError, match="not a regular file"):
            read(str(tmp_path / "pipe"))


def test_large_files_are_hashed_but_not_read(tmp_path: Path) -> None:
    data = b"x" * (4 * 1024 * 1024 + 1)
    (tmp_path / "big").write_bytes(data)
    assert HOST.digest(str(tmp_path / "big")) == hashlib.sha256(data).hexdigest()
    with pytest.raises(HostError, match="larger than 4 MiB"):
        HOST.read(str(tmp_path / "big"))


class Asked:
    """The executor's side, which only notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        self.calls.append((verb, arguments))
        return {}


def test_putting_and_keeping_aside_is_asked_of_the_executor() -> None:
    broker = Asked()
    host = LocalHost(broker)
    host.put_aside("/srv/a")
    host.keep_aside("/srv/f")
    assert broker.calls == [("put-aside", {"path": "/srv/a"}), ("keep-aside", {"path": "/srv/f"})]


def test_what_was_written_is_as_told_and_as_written_since(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    host = LocalHost(safe=True, written={path: "old", "/etc/other": "x"})
    assert (host.safe, host.written(path), host.written("/no")) == (True, "old", None)
    host.write(path, b"new", 0o600, ME, US)
    assert host.written(path) == host.digest(path) and host.written("/etc/other") == "x"
    assert (LocalProbe().safe, LocalProbe().written(path)) == (False, None)


def test_what_is_not_there_is_none_or_empty(tmp_path: Path) -> None:
    path = str(tmp_path / "no")
    assert (HOST.stat(path), HOST.read(path), HOST.digest(path), HOST.names(path)) == (None, None, None, [])


def test_a_blob_is_what_its_name_says(tmp_path: Path) -> None:
    good = hashlib.sha256(b"good").hexdigest()
    (tmp_path / good).write_bytes(b"good")
    probe = LocalProbe(blobs=str(tmp_path))
    assert probe.blob(good) == b"good"
    (tmp_path / good).write_bytes(b"evil")
    with pytest.raises(HostError, match="not the one"):
        probe.blob(good)
    with pytest.raises(HostError, match="did not come"):
        LocalProbe().blob(good)


def test_secrets_are_placeholders_in_a_forecast_only() -> None:
    assert LocalProbe().generate("password") == "<password>"
    made = {HOST.generate("password") for _ in range(3)}
    assert len(made) == 3 and min(map(len, made)) >= 32


def test_programs_get_a_fixed_environment_and_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert "SECRET" not in run_program(["env"]).out
    assert run_program(["echo", "$(id); *"]).out == "$(id); *\n"
    with pytest.raises(HostError, match="cannot be run"):
        run_program(["/no/such/program"])


def test_a_stream_comes_as_it_is_written_and_ends_its_program() -> None:
    program = "import sys, time; print('one', flush=True); time.sleep(60)"
    stream = HOST.stream([sys.executable, "-c", program])
    assert next(stream) == b"one\n"
    stream.close()  # returns at once: the program is killed, not waited for


def test_a_stream_that_fails_says_why() -> None:
    with pytest.raises(HostError, match="no journal"):
        list(HOST.stream([sys.executable, "-c", "import sys; sys.exit('no journal')"]))
