import os
import subprocess
import sys
from pathlib import Path

import pytest

from serverflow_cli.config.atomic import locked, write_atomic
from serverflow_cli.errors import ConfigError, Locked

HEADER = """
import sys
from pathlib import Path
from serverflow_cli.config.atomic import *
from serverflow_cli.errors import *
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HEADER + code, *arguments], capture_output=True, text=True, timeout=60)


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", 0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_does_not_change_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "file", b"", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file").symlink_to("victim")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()


def test_a_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        write_atomic(tmp_path / "nowhere" / "file", b"")


def test_a_file_size_limit_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except ConfigError as error: print(error)"
    )
    assert "cannot be written: File too large" in run(code, str(path)).stdout
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; the file size limit above stands in for it")
    try:
        path = tmp_path / "file"
        path.write_text("old")
        with pytest.raises(ConfigError, match="No space left on device"):
            write_atomic(path, b"x" * 100_000)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_lock_that_is_held_names_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with locked(path):
        done = run(
            "try:\n with locked(Path(sys.argv[1]), 0.1): pass\nexcept Locked as error: print(error.exit_code, error)",
            str(path),
        )
    assert done.stdout.startswith(f"8 {tmp_path} is being changed by process {os.getpid()} on ")
    with locked(path, 0):
        pass  # free again


def test_a_lock_ends_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert run("import os\nwith locked(Path(sys.argv[1])): os._exit(9)", str(path)).returncode == 9
    with locked(path, 0):
        pass


def test_a_lock_is_not_reentrant(tmp_path: Path) -> None:
    with locked(tmp_path / "one"), pytest.raises(Locked), locked(tmp_path / "two", 0):
        pytest.fail("one folder has one lock")


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".sf.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError), locked(tmp_path / "file"):
        pytest.fail("a link must not be followed")
    assert not (tmp_path / "victim").exists()
