"""The wheel is complete: installed into an empty environment, it gives servers the same bytes as the checkout does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from serverflow_actions import registry
from serverflow_cli.trust import bundle

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has nothing but the wheel and what it declares to need."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run([*PIP, "--python", folder / "bin/python", "install", wheel], check=True)
    return folder / "bin"


def run(program: Path, *arguments: str, home: Path) -> str:
    """In a folder outside the checkout, with nothing of this process's environment."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run([program, *arguments], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    runner = {f"serverflow_cli/_remote/{path.name}" for path in (ROOT / "remote").glob("*.py")}
    actions = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/serverflow_actions").rglob("*.py")
        if "cases" not in path.parts
    }
    assert runner | actions <= names
    assert {"serverflow_cli/cli/catalogue.json", "serverflow_cli/py.typed", "serverflow_actions/py.typed"} <= names
    assert not [name for name in names if "/cases/" in name or "__pycache__" in name or name.startswith("tests/")]
    shared = {name.partition(".data/data/")[2] for name in names}
    assert {"share/bash-completion/completions/sf", "share/zsh/site-functions/_sf"} <= shared
    assert "share/fish/vendor_completions.d/sf.fish" in shared


def test_servers_get_the_same_bytes(installed: Path, tmp_path: Path) -> None:
    script = (
        "from serverflow_cli.trust import bundle; files = bundle.collect();"
        "print(bundle.__file__); print(bundle.content_hash(files))"
    )
    place, content = run(installed / "python", "-c", script, home=tmp_path).splitlines()
    assert Path(place).is_relative_to(installed.parent)
    assert content == bundle.content_hash(bundle.collect())


def build(kind: str, source: Path, into: Path, *, umask: int = 0o022, **variables: str) -> Path:
    """What `make` of the packager gives: a wheel or an sdist, with nothing of this process's environment."""
    script = (
        f"import os, sys; os.umask({umask}); os.chdir(sys.argv[1]); from hatchling import build;"
        f"print(build.build_{kind}(sys.argv[2]))"
    )
    into.mkdir(exist_ok=True)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(into), "LANG": "C.UTF-8", **variables}
    argv: list[str | Path] = [sys.executable, "-c", script, source, into]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return into / str(done.stdout.split()[-1])


def copy(to: Path) -> Path:
    """The checkout as git has it, elsewhere; .git stays away, as in an archive."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    return to


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bundle_in(wheel: Path, into: Path) -> str:
    """The hash of the bundle that an `sf` from this wheel makes."""
    zipfile.ZipFile(wheel).extractall(into)
    script = (
        "from serverflow_cli.trust import bundle; print(bundle.__file__); print(bundle.content_hash(bundle.collect()))"
    )
    paths = os.pathsep.join([str(into), *(path for path in sys.path if path.endswith("-packages"))])
    argv = [sys.executable, "-S", "-c", script]
    environment = {"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run(argv, cwd=into, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    place, content = done.stdout.splitlines()
    assert Path(place).is_relative_to(into)
    return content


def test_the_build_is_reproducible_byte_for_byte(tmp_path: Path) -> None:
    """Whoever builds the same source has the same wheel: another folder, umask, time zone, locale and age of files."""
    first = copy(tmp_path / "first")
    second = copy(tmp_path / "a second place" / "sf")
    for path in sorted(second.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (946684800, 946684800))
    for kind in ("wheel", "sdist"):
        one = build(kind, first, tmp_path / "one", TZ="UTC")
        two = build(kind, second, tmp_path / "two", umask=0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
        assert one.name == two.name
        assert sha256(one) == sha256(two), kind


def test_checkout_wheel_and_sdist_make_the_same_bundle(tmp_path: Path) -> None:
    source = copy(tmp_path / "source")
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    from_checkout = build("wheel", source, tmp_path / "wheel")
    from_sdist = build("wheel", unpacked, tmp_path / "sdist-wheel")
    assert sha256(from_checkout) == sha256(from_sdist)
    expected = bundle.content_hash(bundle.collect())
    assert bundle_in(from_checkout, tmp_path / "from-checkout") == expected
    assert bundle_in(from_sdist, tmp_path / "from-sdist") == expected


def test_sf_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    sf = installed / "sf"
    run(sf, "init", "fleet", "--name", "ana", home=tmp_path)
    assert (tmp_path / "fleet/fleet.toml").is_file()
    listed = run(sf, "action", "list", home=tmp_path)
    assert {line.split()[0] for line in listed.splitlines()} >= set(registry.names())
    shown = json.loads(run(sf, "server", "list", "--fleet", "fleet", "--json", home=tmp_path))
    assert shown["data"] == {"servers": []}
