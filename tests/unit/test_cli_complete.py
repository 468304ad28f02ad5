"""Completion: what is offered, and that the shells really take it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serverflow_cli.cli.complete import complete
from serverflow_cli.cli.seen import remember_units, seen_units
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests/unit/fleet.example.toml"


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a fleet and with seen units."""
    (tmp_path / "fleet.toml").write_text(EXAMPLE.read_text())
    (tmp_path / "state/serverflow").mkdir(parents=True)
    (tmp_path / "state/serverflow/seen-units").write_text("nginx.service\nredis.service\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    program = Path(sys.executable).parent
    return {
        "SF_FLEET": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": f"{program}:{os.environ['PATH']}",
    }


def offers(line: str, environ: dict[str, str]) -> list[str]:
    words = line.split(" ")
    return [value for value, _ in complete(words, environ)]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("serv", ["server", "service"]),
        ("service re", ["reload", "restart"]),
        ("service restart nginx --on ", ["web1", "db1", "@app", "@db", "@dns", "+prod", "all"]),
        ("service restart nginx --on @", ["@app", "@db", "@dns"]),
        ("notify show ", ["ops"]),
        ("route edit ", ["shop"]),
        ("cert check ", ["base", "server"]),
        ("notify add ", ["email", "slack", "webhook"]),
        ("notify add email ops --security t", ["tls"]),
        ("service restart nginx --on web1,d", ["web1,db1"]),
        ("service restart nginx --on all,!d", ["all,!db1"]),
        ("service restart nginx --on=+", ["--on=+prod"]),
        ("--json service restart nginx --on web", ["web1"]),
        ("service restart nginx --pl", ["--plan"]),
        ("service restart nginx --js", ["--json"]),
        ("service restart nginx extra ", []),
        ("server show w", ["web1"]),
        ("server add new", []),
        ("server add x root@h --role a", ["app"]),
        ("server add x root@h --identity ", [":files"]),
        ("op list --fleet ", [":files"]),
        ("action show service.sta", ["service.start", "service.status"]),
        ("action run service.restart u", ["unit="]),
        ("action run service.restart unit=", ["unit=nginx.service", "unit=redis.service"]),
        ("action list serv", ["server", "service"]),
        ("nowhere ", []),
    ],
)  # fmt: skip
def test_offers(line: str, offered: list[str], environ: dict[str, str]) -> None:
    assert offers(line, environ) == offered


def test_units_seen_are_offered(environ: dict[str, str]) -> None:
    assert offers("service restart ng", environ) == ["nginx.service"]
    assert offers("action run service.restart unit=re", environ) == ["unit=redis.service"]


@pytest.mark.parametrize(
    "content", ["", "servers = 3\n", "not toml [", "[servers]\nweb1 = 5\n", '[servers.web1]\nroles = "x"\n']
)
def test_a_damaged_fleet_file_does_not_disturb(content: str, environ: dict[str, str]) -> None:
    Path(environ["SF_FLEET"], "fleet.toml").write_text(content)
    assert "all" in offers("service list --on ", environ)


def test_names_with_control_characters_are_not_printed(environ: dict[str, str]) -> None:
    Path(environ["SF_FLEET"], "fleet.toml").write_text('[servers."a\\u001b[2J"]\nhost = "x"\n')
    done = subprocess.run(
        [sys.executable, "-m", "serverflow_cli.main", "__complete", "server", "show", ""],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_units_are_remembered_once_and_only_when_they_are_unit_names(tmp_path: Path) -> None:
    data = {"units": [{"unit": "a.service", "description": "A"}, {"unit": "\x1b[2J"}, {"name": "b.timer"}]}
    result = CommandResult(servers=(ServerResult("web1", Reply("", "done", data=data)),))
    file = tmp_path / "new/seen-units"
    remember_units(result, file)
    remember_units(result, file)
    assert seen_units(file) == ["a.service", "b.timer"]


def test_bash(environ: dict[str, str]) -> None:
    script = """
    source completions/sf.bash
    ask() { COMP_LINE=$1 COMP_POINT=${#1}; COMPREPLY=(); _sf sf; printf '%s ' "${COMPREPLY[@]}"; echo; }
    ask 'sf serv'
    ask 'sf service restart nginx --on @a'
    ask 'sf service restart nginx --on=@d'
    ask 'sf action run service.restart unit=ng'
    ask 'sf server add x root@h --identity docs/ref'
    """
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:5] == [
        "server service ",
        "app ",
        "db dns ",
        "nginx.service ",
        "docs/reference ",
    ]
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(environ: dict[str, str], tmp_path: Path) -> None:
    script = "source completions/sf.fish; complete -C 'sf service restart nginx --on @a'; complete -C 'sf serv'"
    environ["HOME"] = str(tmp_path)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "@app\trole"
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["@app", "server", "service"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(environ: dict[str, str]) -> None:
    # Outside the line editor compsys cannot run: stand in for _describe and look at what it is given.
    script = """
    _describe() { print -rl -- "${(@P)2}" }
    compdef() { }
    ask() { words=("$@"); CURRENT=$#; source completions/_sf }
    ask sf serv
    ask sf service restart nginx --on @a
    """
    done = subprocess.run(["zsh", "-fc", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "server:Add, list, check, rename, update and remove servers",
        "service:systemd services: status, logs, start, stop, restart",
        "@app:role",
    ]
