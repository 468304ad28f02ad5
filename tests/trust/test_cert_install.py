"""Certificate and key change at once, whenever the power goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import certinstall
import layout

#: Installs one pair after the other, for ever; the pair is the same text twice.
_WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
import layout
layout.CERTS, layout.CERT_VERSIONS = sys.argv[2], sys.argv[2] + "/.versions"
import certinstall
number = 0
while True:
    begun = certinstall.begin("web1")
    number += 1
    with open(certinstall.path(begun, certinstall.KEY), "w") as file:
        file.write(str(number))
    certinstall.finish("web1", begun, str(number))
    certinstall.sweep("web1")
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "CERTS", str(tmp_path / "certs"))
    monkeypatch.setattr(layout, "CERT_VERSIONS", str(tmp_path / "certs/.versions"))
    return tmp_path / "certs"


def install(text: str, name: str = "web1") -> str:
    begun = certinstall.begin(name)
    Path(certinstall.path(begun, certinstall.KEY)).write_text(text)
    return certinstall.finish(name, begun, text)


def pair(place: Path, name: str = "web1") -> tuple[str, str]:
    folder = os.path.realpath(place / name)  # as one who opens both at a moment
    return Path(folder, "privkey.pem").read_text(), Path(folder, "fullchain.pem").read_text()


def test_both_are_there_and_only_root_reads_the_key(place: Path) -> None:
    os.umask(0o022)
    version = install("one")
    assert pair(place) == ("one", "one") and certinstall.current("web1") == version
    assert (place / ".versions").stat().st_mode & 0o777 == 0o700
    assert (place / ".versions" / version).stat().st_mode & 0o777 == 0o700
    assert (place / "web1").is_symlink() and place.stat().st_mode & 0o777 == 0o755


def test_the_version_before_is_kept_and_no_more(place: Path) -> None:
    versions = [install(str(number)) for number in range(5)]
    certinstall.begin("web1")  # broke off
    other = install("other", "web1-b")
    certinstall.sweep("web1")
    assert sorted(os.listdir(place / ".versions")) == sorted([*versions[-2:], other])
    assert pair(place) == ("4", "4") and pair(place, "web1-b") == ("other", "other")


def test_purged_without_a_trace_of_others(place: Path) -> None:
    install("one"), install("two"), install("other", "web1-b")
    certinstall.purge("web1")
    assert sorted(os.listdir(place)) == [".versions", "web1-b"] and len(os.listdir(place / ".versions")) == 1


def test_somebody_elses_folder_is_neither_ours_nor_replaced(place: Path) -> None:
    (place / "web1").mkdir(parents=True)
    assert certinstall.current("web1") == ""
    with pytest.raises(OSError):
        install("one")
    certinstall.sweep("web1")
    assert [entry for entry in os.listdir(place) if entry.startswith(".web1")] == []
    for target in ("/etc", ".versions/../../etc", ".versions/nothing"):
        (place / "link").unlink(missing_ok=True)
        (place / "link").symlink_to(target)
        assert certinstall.current("link") == ""


def test_a_half_version_does_not_count(place: Path) -> None:
    version = install("one")
    (place / ".versions" / version / "privkey.pem").unlink()
    assert certinstall.current("web1") == ""


def test_killed_at_any_moment_key_and_chain_match(place: Path) -> None:
    remote = str(Path(certinstall.__file__).parent)
    last = 0
    for turn in range(25):
        argv = [sys.executable, "-c", _WRITER, remote, str(place)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            last = int(process.stdout.readline())
            time.sleep(0.0007 * turn)  # another moment each time
            process.send_signal(signal.SIGKILL)
        key, chain = pair(place)
        assert key == chain and int(key) >= last
        certinstall.sweep("web1")
        assert len(os.listdir(place / ".versions")) <= 2
        assert sorted(os.listdir(place)) == [".versions", "web1"]
