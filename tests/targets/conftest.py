"""Fixtures that hand out real servers. They start when a test first asks for them and go when the run ends."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_docker.plugin import Services

from .operator import Operator, new_operator
from .target import COMPOSE_FILE, Fleet, Target, call, remove_leftovers

#: Seconds that some files were seen to take, where two for each test is far from it.
LONG = {
    "test_attacks.py": 110,
    "test_attacks_params.py": 120,
    "test_cert.py": 480,
    "test_cron_clocks.py": 200,
    "test_names.py": 140,
    "test_rekey.py": 260,
    "test_safe.py": 200,
    "test_safe_kills.py": 230,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: with `--dist loadfile` the last one must not run alone for minutes."""
    tests = Counter(item.path.name for item in items)
    items.sort(key=lambda item: -LONG.get(item.path.name, 2 * tests[item.path.name]))
    for item in items:
        if "fleet" in getattr(item, "fixturenames", ()):
            item.add_marker("target")


@pytest.fixture(scope="session")
def engine() -> None:
    """Without an engine these tests say nothing: skipped on a desk, but a failure where they are counted on."""
    if shutil.which("docker") and all(
        subprocess.run(argv, capture_output=True).returncode == 0
        for argv in (["docker", "info"], ["docker", "compose", "version"])
    ):
        return
    reason = "no Docker engine with Compose v2 answers: run tests/targets/engine.sh"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(COMPOSE_FILE)


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return f"serverflow-{os.getpid()}"


@pytest.fixture(scope="session")
def docker_setup(engine: None) -> list[str]:
    remove_leftovers()
    return []  # the servers start one by one, on demand


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["--profile fresh down --volumes --remove-orphans --timeout 0"]


@pytest.fixture(scope="session")
def fleet(
    docker_services: Services, docker_compose_project_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    admin_key = tmp_path_factory.mktemp("admin") / "id_ed25519"
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "admin", "-f", admin_key)
    return Fleet(docker_compose_project_name, admin_key)


@pytest.fixture(scope="session")
def target(fleet: Fleet) -> Target:
    """web1, Debian 12. The whole run uses it: leave it as it was found, or take a fresh_target."""
    return fleet.start("web1")


@pytest.fixture(scope="session")
def target2(fleet: Fleet) -> Target:
    """db1, Debian 12: web1's neighbour."""
    return fleet.start("db1")


@pytest.fixture(scope="session")
def old_target(fleet: Fleet) -> Target:
    """old1, Debian 11: Python 3.9 and systemd 247, the oldest that are supported."""
    return fleet.start("old1")


@pytest.fixture(scope="session")
def new_target(fleet: Fleet) -> Target:
    """new1, Debian 13."""
    return fleet.start("new1")


@pytest.fixture
def fresh_target(fleet: Fleet) -> Iterator[Callable[..., Target]]:
    """Call it for a brand-new server that only this test uses."""
    started: list[Target] = []

    def start(release: str = "debian12") -> Target:
        started.append(fleet.start_fresh(release))
        return started[-1]

    yield start
    for each in started:
        fleet.remove(each)


@pytest.fixture(scope="session")
def operator(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A fleet with web1 (role app) enrolled. The whole run uses it: remove what you add."""
    found = new_operator(tmp_path_factory.mktemp("operator"))
    found.add("web1", target, "--role", "app")
    return found


@pytest.fixture
def fresh_operator(tmp_path: Path) -> Operator:
    """A new fleet without servers."""
    return new_operator(tmp_path)
