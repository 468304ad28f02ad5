"""What is half there: a stanza without its server, a server that has left, a resource that waits for another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .operator import Operator, new_operator
from .target import Target


@pytest.fixture
def fleet_toml(operator: Operator) -> Iterator[Path]:
    """fleet.toml, put back afterwards."""
    path = operator.fleet / "fleet.toml"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_server_that_was_never_enrolled_holds_up_nobody(operator: Operator, fleet_toml: Path) -> None:
    append(fleet_toml, '\n[servers.planned1]\nhost = "192.0.2.1"\n')
    answer = operator.json("system", "info", "--on", "all", check=False)
    outcomes = {server["name"]: server["outcome"] for server in answer["servers"]}
    assert outcomes == {"web1": "done", "planned1": "not-enrolled"}


def test_a_resource_waits_for_what_it_needs(fresh_operator: Operator, fresh_target: Callable[..., Target]) -> None:
    """A lost server is rebuilt from the file in one run, in as many rounds as there are such steps."""
    target = fresh_target()
    fresh_operator.add("web9", target)
    path = fresh_operator.fleet / "fleet.toml"
    path.write_text(path.read_text().replace("[servers.web9]\n", '[servers.web9]\npackages = ["redis-server"]\n'))
    append(path, '\n[users.tess]\non = "web9"\ngroups = ["redis"]\n')  # a group that the package brings
    planned = fresh_operator.run("plan")
    assert "not planned before: user.tess (there is no group redis)" in planned.stderr
    fresh_operator.run("apply", "--yes")
    assert "ii" in target.run("dpkg", "-l", "redis-server").stdout
    assert "redis" in target.run("id", "-nG", "tess").stdout.split()


def test_a_stanza_goes_as_a_whole(operator: Operator, fleet_toml: Path) -> None:
    append(fleet_toml, '\n[servers.planned1]\nhost = "192.0.2.1"\n\n[apps.shop]\non = "all"\n')
    refused = operator.run("app", "remove", "shop", "--on", "web1", "--confirm", "shop", check=False)
    assert refused.returncode == 2
    assert "come back" in refused.stderr


def test_a_stanza_that_others_need_stays(operator: Operator, fleet_toml: Path) -> None:
    append(
        fleet_toml,
        '\n[apps.shop]\non = "web1"\n\n[routes.shop]\non = "web1"\nhost = "a.example"\nto = { app = "shop" }\n',
    )
    refused = operator.run("app", "remove", "shop", "--on", "web1", "--confirm", "shop", check=False)
    assert refused.returncode == 2
    assert "still needed" in refused.stderr


def test_receipts_of_a_server_that_left_stay_verifiable(
    fresh_operator: Operator, fresh_target: Callable[..., Target]
) -> None:
    target = fresh_target()
    fresh_operator.add("web9", target)
    fresh_operator.run("service", "restart", "cron", "--on", "web9", "--yes")
    fresh_operator.run("server", "remove", "web9", "--confirm", "web9")
    assert "sound" in fresh_operator.run("audit", "verify").stdout


def test_check_mode_of_what_the_runner_does_itself_does_not_do_it(operator: Operator, target: Target) -> None:
    server_id = target.run("cat", "/etc/serverflow/server_id").stdout.strip()
    planned = operator.run("action", "run", "server.leave", "--on", "web1", f"confirm={server_id}", "--plan")
    assert "server.leave" in planned.stdout
    operator.run("system", "info", "--on", "web1")
    assert target.run("test", "-d", "/var/lib/serverflow", check=False).returncode == 0


def test_init_does_not_take_over_someone_elses_trust(
    fresh_operator: Operator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = new_operator(tmp_path_factory.mktemp("stranger"))
    folder = fresh_operator.home / "copied"
    folder.mkdir()
    shutil.copytree(stranger.fleet / "trust", folder / "trust")
    refused = fresh_operator.run("init", str(folder), "--name", "ana", check=False)
    assert refused.returncode == 3
    assert not (folder / "fleet.toml").exists()


def test_an_empty_fleet_option_is_no_fleet(operator: Operator) -> None:
    assert operator.run("--fleet", "", "server", "list", check=False).returncode == 2
