"""The wheel is complete: installed into an empty environment, it gives servers the same bytes as the checkout does."""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_sf_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    sf = installed / "sf"
    run(sf, "init", "fleet", "--name", "ana", home=tmp_path)
    assert (tmp_path / "fleet/fleet.toml").is_file()
    listed = run(sf, "action", "list", home=tmp_path)
    assert {line.split()[0] for line in listed.splitlines()} >= set(registry.names())
    shown = json.loads(run(sf, "server", "list", "--fleet", "fleet", "--json", home=tmp_path))
    assert shown["data"] == {"servers": []}
