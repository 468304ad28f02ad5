"""What a review found, on a server of its own. The last test takes the server down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import attacker
from .attacker import TRUST, Key
from .operator import eventually
from .target import Fleet
from .victim import Victim, fresh_victim

CRON = {"unit": "cron"}
KEYS = "/etc/ssh/serverflow_authorized_keys"


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


def test_another_key_does_not_get_an_operations_receipt_by_its_id(victim: Victim, tmp_path: Path) -> None:
    key = Key.make(tmp_path, "second")
    victim.push_trust(victim.command_key(key, name="second"))
    op = attacker.new_op()
    assert victim.client.ask("service.restart", CRON, op_id=op).verdict == "done"
    with victim.untouched():
        answer = victim.client.as_(key, login=key).ask("service.restart", CRON, op_id=op)
        assert answer.verdict == "bad-frame"
        assert answer.body["actor"]["name"] == "second"
    assert [kind for kind, _ in answer.frames] == ["R"]


def test_an_action_does_not_mark_what_it_does_not_apply(victim: Victim) -> None:
    base = {"resource": "redis.cache", "from": "", "to": "ab" * 32}
    with victim.untouched():
        assert victim.client.ask("service.restart", CRON, base=base).verdict == "bad-params"
    assert "redis.cache" not in victim.client.ask("applied.list").body["data"]["applied"]


def test_a_revocation_that_was_cut_off_is_finished_by_the_same_file(victim: Victim) -> None:
    right = victim.target.run("cat", KEYS).stdout
    installed = victim.target.run("cat", f"/etc/serverflow/trust/{victim.trust_version()}.json").stdout.encode()
    victim.target.run("sh", "-c", f"echo '# of a version before' >> {KEYS}")
    length = victim.chain_length()
    assert victim.client.push(TRUST, installed, victim.root).verdict == "unchanged"
    assert victim.target.run("cat", KEYS).stdout == right
    assert victim.chain_length() == length
    victim.target.run("sh", "-c", f"echo '# of a version before' >> {KEYS}")
    victim.target.run("/usr/local/libexec/serverflow/runner", "boot")
    assert victim.target.run("cat", KEYS).stdout == right


@pytest.mark.parametrize("path", ["commands.py", "executor.py", "reads.py", "serverflow_actions/user/list.py"])
def test_a_bundle_that_does_not_start_does_not_take_over(victim: Victim, path: str) -> None:
    before, files = victim.bundle_version(), victim.bundle_files()
    with victim.untouched():
        for broken in (b"import nothing_of_that_name\n", b"def\n"):
            answer = victim.push_bundle({**files, path: broken})
            assert answer.verdict == "bad-bundle", answer.body
    assert victim.bundle_version() == before
    assert victim.target.run("ls", "-A", "/usr/local/libexec/serverflow/versions").stdout.split() == [str(before)]


def test_leaving_takes_everything_but_what_is_in_the_way(victim: Victim) -> None:
    unit = "/etc/systemd/system/serverflow-rollback.service"
    victim.target.run("sh", "-c", f"rm {unit} && mkdir -p {unit}/in-the-way")
    answer = victim.client.ask("server.leave", {"confirm": victim.client.server_id})
    assert answer.verdict == "done", answer.body
    gone = "! test -e /usr/local/libexec/serverflow && ! test -e /var/lib/serverflow && ! id serverflow"
    eventually(lambda: not victim.target.run("sh", "-c", gone, check=False).returncode, "ServerFlow has left")
