"""Links that somebody exchanges for folders while root is at work in them: a race that the owner of a folder can run
as often as they like. What the link leads to must stay as it is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .attack import attack
from .attacker import Key
from .operator import eventually
from .target import Fleet
from .victim import Victim, fresh_victim

#: Runs as the owner: a folder and a link change places (renameat2(2) with RENAME_EXCHANGE) until /run/race goes.
RACER = """
import ctypes, os, sys
folder, link = sys.argv[1:]
swap = ctypes.CDLL(None).syscall
number = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
while os.path.exists("/run/race"):
    swap(number, -100, folder.encode(), -100, link.encode(), 2)
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("tee", "/usr/local/bin/racer.py", input=RACER)
        yield found


@contextmanager
def racing(victim: Victim, user: str, folder: str, link: str) -> Iterator[None]:
    victim.target.run("touch", "/run/race")
    argv = ["docker", "exec", "-u", user, victim.target.container, "python3", "/usr/local/bin/racer.py", folder, link]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as racer:
        try:
            # It has begun when the link was seen in the folder's place.
            eventually(lambda: victim.target.run("test", "-L", folder, check=False).returncode == 0, "the race begins")
            yield
            assert racer.poll() is None, "the race went on to the end"
        finally:
            victim.target.run("rm", "-f", "/run/race")


def _everything(victim: Victim, folder: str) -> str:
    """Names, owners, modes and content."""
    script = f"find {folder} -printf '%p %m %u:%g %l\\n' | sort; find {folder} -type f -exec sha256sum {{}} + | sort"
    return victim.target.run("sh", "-c", script).stdout


@attack("symlink race", stopped_by="paths are walked by descriptors that follow no link")
def test_keys_are_not_written_through_a_link_to_another_home(victim: Victim, tmp_path: Path) -> None:
    """A user points ~/.ssh at an administrator's while root adds and removes a key of theirs."""
    key = {"name": "racer", "key": Key.make(tmp_path, "racer").line}
    assert victim.safely("user.create", {"name": "racer", "key": [key["key"]]}) == "done"
    victim.target.run("runuser", "-u", "racer", "--", "ln", "-s", "/home/admin/.ssh", "/home/racer/link")
    before = _everything(victim, "/home/admin")
    other = {"name": "racer", "key": Key.make(tmp_path, "other").line}
    fingerprint = victim.target.run("ssh-keygen", "-lf", "/dev/stdin", input=other["key"]).stdout.split()[1]
    verdicts = set()
    with racing(victim, "racer", "/home/racer/.ssh", "/home/racer/link"):
        for _ in range(5):
            removal = {"name": "racer", "fingerprint": fingerprint}
            for ending in ("safe.confirm", "safe.rollback"):
                verdicts.add(victim.safely("user.add-key", other, ending))
                verdicts.add(victim.safely("user.remove-key", removal, ending))
    # The last one: the link was another one when it was planned.
    assert verdicts <= {"done", "unchanged", "action-failed", "rolled-back", "plan-changed"}
    assert _everything(victim, "/home/admin") == before


@attack("symlink race", stopped_by="paths are walked by descriptors that follow no link")
def test_a_purge_does_not_follow_a_link_out_of_the_apps_data(victim: Victim) -> None:
    """An app's user points a folder in its data at another app's while root removes the data."""
    assert victim.client.ask("app.create", {"name": "bank"}).verdict == "done"
    victim.target.run("runuser", "-u", "bank", "--", "sh", "-c", "for n in 1 2 3; do echo $n > /srv/bank/$n; done")
    before = _everything(victim, "/srv/bank")
    for _ in range(8):
        assert victim.client.ask("app.create", {"name": "shop"}).verdict in ("done", "unchanged")
        make = (
            "mkdir -p /srv/shop/d && ln -sfn /srv/bank /srv/shop/l && for n in $(seq 300); do echo > /srv/shop/$n; done"
        )
        victim.target.run("runuser", "-u", "shop", "--", "sh", "-c", make)
        with racing(victim, "shop", "/srv/shop/d", "/srv/shop/l"):
            verdict = victim.client.ask("app.remove", {"name": "shop", "purge-data": True}).verdict
            assert verdict in ("done", "action-failed")
        assert _everything(victim, "/srv/bank") == before


@pytest.mark.parametrize("action", ["file.show", "file.list"])
@attack("path traversal", stopped_by="paths are walked by descriptors that follow no link")
def test_an_app_does_not_show_what_its_links_lead_to(victim: Victim, action: str) -> None:
    assert victim.client.ask("app.create", {"name": "links"}).verdict in ("done", "unchanged")
    victim.target.run("runuser", "-u", "links", "--", "ln", "-sfn", "/etc", "/srv/links/etc")
    path = "etc/passwd" if action == "file.show" else "etc"
    answer = victim.client.ask(action, {"app": "links", "path": path})
    assert (answer.verdict, answer.body["data"]) == ("action-failed", {})
