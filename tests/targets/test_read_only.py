"""Looking leaves no trace: every read, and every change in check mode, over the whole file system."""

from __future__ import annotations

import pytest

from .areas import run
from .operator import Operator, checksum
from .target import Target

_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIh07NHBmm2jNaRAtN9hVWjWMipRJ5mwnHPtmqxMrIYg x"
_WORDS = {"KEY": _KEY, "PRINT": "SHA256:LFJWN44IsHd/nM4R3C262s/yNHfF048h5jYw9P3jKVM"}
_READS = """
system info|system disk|service status cron|service list|service list --failed|service logs cron|package list bash htop
user list --system|user show admin|user keys admin|app list|app show shop|file list shop|file show shop note
redis show cache
"""
_PLANS = """
system hostname other|system timezone Asia/Tokyo|system update|system reboot
package install htop|package remove tree
service start nginx-none|service stop cron|service disable cron|service restart cron|service reload cron
user create ada --comment x|user add-key admin KEY|user remove-key admin PRINT|user remove admin
app create other|app create shop --port 3999|app clear-cache shop|app remove shop --purge-data
file put shop - note|file put shop - new/deep/note
redis create second --port 7000|redis create cache --max-memory 99MiB|redis remove cache --purge-data
"""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\n", "|").split("|") if line.strip()]


@pytest.fixture
def furnished(operator: Operator, target: Target) -> Operator:
    """web1 with an app that has a cache, and a Redis: so that every look sees something."""
    run(operator, "app", "create", "shop", "--yes")
    run(operator, "file", "put", "shop", "-", "note", "--yes", input="hello\n")
    run(operator, "file", "put", "shop", "-", "cache/page", "--yes", input="old\n")
    run(operator, "redis", "create", "cache", "--yes")
    run(operator, "package", "install", "tree", "--yes")
    return operator


def test_reads_and_plans_leave_no_trace(furnished: Operator, target: Target) -> None:
    operator = furnished
    fleet_toml = (operator.fleet / "fleet.toml").read_text()
    try:
        for line in "system info", "system update --plan":  # the first of each kind may fill caches of the system
            operator.run(*line.split(), "--on", "web1")
        before = checksum(target)
        assert "/etc/serverflow/apps/shop.json" in before
        for line in _lines(_READS):
            assert run(operator, *line.split())["outcome"] in ("done", "unchanged"), line
        for line in _lines(_PLANS):
            argv = [_WORDS.get(word, word) for word in line.split()]
            done = operator.run("--json", *argv, "--plan", "--on", "web1", input="x\n", check=False)
            # A unit that is not there and the like are refused: that must leave no trace either.
            assert done.returncode in (0, 6), f"{line}: {done.stdout}{done.stderr}"
        operator.run("plan")
        after = checksum(target)
        assert sorted(set(before.splitlines()) ^ set(after.splitlines())) == []
        assert (operator.fleet / "fleet.toml").read_text() == fleet_toml
    finally:
        run(operator, "app", "remove", "shop", "--purge-data", "--confirm", "shop")
        run(operator, "redis", "remove", "cache", "--purge-data", "--confirm", "cache")
        run(operator, "package", "remove", "tree", "--confirm", "tree")
