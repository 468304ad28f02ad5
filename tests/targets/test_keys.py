"""`sf key` and `sf trust` on real servers: deploy keys, several operators, thresholds, lost keys."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pexpect
import pytest

from .operator import SF, Operator, elsewhere, eventually, join, new_operator, pull, root_of
from .target import Fleet, Target

GRANT = ("--allow", "service.restart", "--on", "@app", "--where", "unit=cron")


@pytest.fixture(scope="module")
def servers(fleet: Fleet) -> Iterator[tuple[Target, Target]]:
    started = fleet.start_fresh("debian12"), fleet.start_fresh("debian12")
    for each in started:
        often = "/etc/systemd/system/cron.service.d"
        unit = f"mkdir -p {often}; printf '[Unit]\\nStartLimitIntervalSec=0\\n' > {often}/often.conf"
        each.run("sh", "-c", f"{unit}; systemctl daemon-reload")
    yield started
    for each in started:
        fleet.remove(each)


@pytest.fixture(scope="module")
def ana(servers: tuple[Target, Target], tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A fleet of two servers, of which the first is an app server. Tests leave it as they found it."""
    operator = new_operator(tmp_path_factory.mktemp("ana"))
    operator.add("web1", servers[0], "--role", "app")
    operator.add("db1", servers[1], "--role", "db")
    return operator


@pytest.fixture(autouse=True)
def _nobody_else(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests share a fleet: what one that failed has left must not fail the others."""
    yield
    if "ana" in request.fixturenames:
        operator: Operator = request.getfixturevalue("ana")
        for name in {row["name"] for row in keys(operator)} - {"ana"}:
            operator.run("key", "revoke", name, "--yes", check=False)


@pytest.fixture
def deployed(ana: Operator, tmp_path: Path) -> Operator:
    """A CI job: an empty home, a checkout of the fleet folder, and what `sf key deploy` printed."""
    printed = ana.run("key", "deploy", "ci", *GRANT, "--yes").stdout
    variables = dict(line.split("=", 1) for line in printed.splitlines())
    assert set(variables) == {"SF_KEY", "SF_ROOT"}
    return elsewhere(ana, tmp_path / "ci", **variables)


def keys(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.json("key", "list")["data"]["keys"])


def code(operator: Operator, *argv: str) -> tuple[int, str]:
    """Exit code, and the error's code in the envelope, of the whole or of its first server."""
    done = operator.run("--json", *argv, check=False)
    envelope = json.loads(done.stdout)
    errors = [envelope["error"], *(server["error"] for server in envelope["servers"])]
    return done.returncode, next((error["code"] for error in errors if error), "")


def cron(target: Target) -> str:
    return target.run("systemctl", "show", "--property=MainPID", "--value", "cron").stdout.strip()


def trust_of(target: Target) -> int:
    names = target.run("ls", "/etc/serverflow/trust").stdout.split()
    return max(int(name.split(".")[0]) for name in names)


# --- a deploy key ----------------------------------------------------------------------------------------------------


def test_a_deploy_key_does_what_it_was_granted_and_nothing_else(
    ana: Operator, deployed: Operator, servers: tuple[Target, Target]
) -> None:
    before = cron(servers[0])
    deployed.run("service", "restart", "cron", "--on", "web1", "--yes")
    assert cron(servers[0]) != before
    neighbour = cron(servers[1])
    refused: tuple[tuple[str, ...], ...] = (
        ("service", "restart", "ssh", "--on", "web1", "--yes"),
        ("service", "restart", "cron", "--on", "db1", "--yes"),
        ("service", "stop", "cron", "--on", "web1", "--yes"),
        ("system", "info", "--on", "web1"),
        ("key", "revoke", "ana", "--yes"),
        ("key", "deploy", "more", *GRANT, "--yes"),
    )
    for argv in refused:
        assert code(deployed, *argv)[0] == 4, argv
    assert cron(servers[1]) == neighbour


def test_nothing_secret_is_in_the_fleet_folder(ana: Operator, deployed: Operator) -> None:
    secret = deployed.variables["SF_KEY"]
    pieces = {secret[at : at + 40] for at in range(60, len(secret) - 40, 40)}
    for path in ana.fleet.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "PRIVATE KEY" not in text
            assert not any(piece in text for piece in pieces), path
    assert not list(ana.private.glob("deploy-*"))


def test_revocation_closes_the_login_too(
    ana: Operator, deployed: Operator, servers: tuple[Target, Target], tmp_path: Path
) -> None:
    import base64

    blocks = base64.b64decode(deployed.variables["SF_KEY"]).decode().split("-----END OPENSSH PRIVATE KEY-----\n")
    login = tmp_path / "login"
    login.write_text(blocks[1] + "-----END OPENSSH PRIVATE KEY-----\n")
    login.chmod(0o600)
    ssh = ["ssh", "-i", str(login), "-p", str(servers[0].port), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", f"serverflow@{servers[0].host}"]

    def says() -> str:
        return subprocess.run([*ssh, "id"], capture_output=True, stdin=subprocess.DEVNULL).stderr.decode()

    assert "Permission denied" not in says()
    ana.run("key", "revoke", "ci", "--yes")
    assert "Permission denied" in says()
    assert code(deployed, "service", "restart", "cron", "--on", "web1", "--yes") == (4, "ssh-key-refused")
    assert '"ci"' not in (ana.fleet / "fleet.toml").read_text()


def test_a_deploy_key_is_rotated_without_a_gap(ana: Operator, deployed: Operator) -> None:
    restart = ("service", "restart", "cron", "--on", "web1", "--yes")
    printed = ana.run("key", "rotate", "ci", "--yes").stdout
    renewed = Operator(deployed.home, deployed.fleet, dict(line.split("=", 1) for line in printed.splitlines()))
    pull(deployed, ana)
    deployed.run(*restart)
    renewed.run(*restart)
    findings = ana.json("trust", "status")["data"]["findings"]
    assert any("ci is being rotated" in row["finding"] for row in findings)
    ana.run("key", "rotate", "ci", "--yes")
    pull(deployed, ana)
    renewed.run(*restart)
    assert code(deployed, *restart) == (4, "ssh-key-refused")


def test_a_rotation_can_be_taken_back(ana: Operator, deployed: Operator) -> None:
    ana.run("key", "rotate", "ci", "--yes")
    ana.run("key", "rotate", "ci", "--undo", "--yes")
    pull(deployed, ana)
    deployed.run("service", "restart", "cron", "--on", "web1", "--yes")
    assert [row["name"] for row in keys(ana)].count("ci") == 1


def kill_at_line(operator: Operator, number: int, *argv: str) -> str | None:
    """Run `sf -v` and kill it when it has told so many lines; its output so far, None when it had ended before."""
    process = operator.start("-v", *argv)
    assert process.stderr is not None
    told = [process.stderr.readline() for _ in range(number)]
    process.send_signal(signal.SIGKILL)
    out, rest = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), "".join(told) + rest
    return out if process.returncode else None


def test_a_deployment_that_is_killed_anywhere_goes_on_with_the_same_key(ana: Operator, tmp_path: Path) -> None:
    argv = ("key", "deploy", "ci", *GRANT, "--yes")
    made: set[str] = set()
    number, out = 0, cast("str | None", "")
    while out is not None and "SF_ROOT=" not in out:
        out = kill_at_line(ana, number, *argv)
        number += 1
        made |= {path.read_text() for path in ana.private.glob("deploy-ci")}
    assert number > 2
    assert len(made) == 1, "it made another key after it was killed"


def test_what_cannot_be_printed_is_not_forgotten(ana: Operator) -> None:
    full = subprocess.run(
        [*("sh", "-c", '"$@" > /dev/full', "sh"), str(SF), "key", "deploy", "ci", *GRANT, "--yes"],
        capture_output=True,
        cwd=ana.fleet,
        env=ana.environment(),
    )
    assert full.returncode != 0
    assert "SF_KEY=" in ana.run("key", "deploy", "ci", *GRANT, "--yes").stdout


# --- several operators -----------------------------------------------------------------------------------------------


def test_from_one_root_key_to_two_of_three_and_back(
    ana: Operator, servers: tuple[Target, Target], tmp_path: Path
) -> None:
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root", "--release"))
    carol = join(ana, tmp_path / "carol", "carol", offer=("--root",))
    everybody = (ana, bob, carol)

    def signed_by(first: Operator, second: Operator, *argv: str) -> None:
        assert code(first, *argv) == (13, "needs-signatures")
        pull(second, first)
        assert "1 change" in second.run("trust", "sign", "--plan").stdout
        second.run("trust", "sign", "--yes")
        for each in everybody:
            if each is not second:
                pull(each, second)
            each.run("system", "info", "--on", "all")

    signed_by(ana, bob, "trust", "threshold", "2", "--yes")
    signed_by(carol, ana, "trust", "renew", "--expires", "900d", "--yes")
    versions = {trust_of(each) for each in servers}
    assert code(bob, "key", "deploy", "ci", *GRANT, "--yes") == (13, "needs-signatures")
    assert {trust_of(each) for each in servers} == versions
    # Another change has to wait, and the one that waits can be withdrawn.
    assert code(bob, "trust", "renew", "--yes") == (9, "plan-changed")
    assert code(bob, "key", "revoke", "carol", "--yes") == (9, "plan-changed")
    bob.run("trust", "discard", "--yes")
    signed_by(bob, carol, "trust", "threshold", "1", "--yes")
    for name in ("bob", "carol"):
        ana.run("key", "revoke", name, "--yes")
    assert {row["name"] for row in keys(ana)} == {"ana"}
    assert code(bob, "system", "info", "--on", "web1")[0] == 4
    ana.run("server", "update", "--yes")
    ana.run("audit", "verify", "--against", "all")


def test_servers_come_and_go_where_two_have_to_sign(fleet: Fleet, tmp_path: Path) -> None:
    web1, web2 = fleet.start_fresh("debian12"), fleet.start_fresh("debian12")
    ana = new_operator(tmp_path)
    ana.add("web1", web1)
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root",))
    ana.run("trust", "threshold", "2", "--yes", check=False)
    pull(bob, ana)
    bob.run("trust", "sign", "--yes")
    pull(ana, bob)
    waits = ana.add("web2", web2, check=False)
    assert waits.returncode == 13
    assert "sf trust sign" in waits.stderr
    assert code(ana, "system", "info", "--on", "web2")[0] == 2  # it is in no file yet
    pull(bob, ana)
    bob.run("trust", "sign", "--yes")
    pull(ana, bob)
    ana.add("web2", web2)
    ana.run("system", "info", "--on", "all")
    ana.run("server", "rename", "web2", "web3", "--yes")
    removed = ana.run("server", "remove", "web3", "--confirm", "web3")
    assert "waits for 1 more root signature" in removed.stderr
    # Nothing is begun that could not be ended: the one change that waits comes first.
    assert code(ana, "server", "remove", "web1", "--confirm", "web1") == (9, "plan-changed")
    pull(bob, ana)
    bob.run("trust", "sign", "--yes")
    bob.run("system", "info", "--on", "all")
    bob.run("server", "update", "--yes")
    for each in (web1, web2):
        fleet.remove(each)


def test_the_last_root_keys_cannot_be_taken_out(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root",))
    ana.run("key", "revoke", "bob", "--plan")
    assert code(ana, "trust", "threshold", "3", "--yes") == (2, "usage")
    assert code(bob, "key", "revoke", "bob", "--yes") == (2, "usage")
    # bob takes over: ana's signature on pins and bundle is replaced by his before her keys go.
    assert code(bob, "key", "revoke", "ana", "--yes") == (4, "trust")  # the only release key


def test_whoever_leaves_takes_no_signature_along(fleet: Fleet, tmp_path: Path) -> None:
    """pins.toml and bundle.json were signed by ana alone; when she is out they still have to count."""
    target = fleet.start_fresh("debian12")
    ana = new_operator(tmp_path)
    ana.add("web1", target)
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root", "--release"))
    before = root_of(ana)
    bob.run("key", "revoke", "ana", "--yes")
    bob.run("server", "update", "--yes")
    bob.run("server", "rename", "web1", "web9", "--yes")
    assert code(ana, "system", "info", "--on", "web1")[0] == 4
    new = elsewhere(bob, tmp_path / "new")
    assert code(new, "trust", "show")[0] == 0
    stale = Operator(tmp_path / "stale", new.fleet, {"SF_ROOT": before})
    stale.home.mkdir()
    assert code(stale, "trust", "show") == (4, "wrong-root")
    fleet.remove(target)


def test_a_new_clone_of_a_fleet_with_several_roots(ana: Operator, tmp_path: Path) -> None:
    join(ana, tmp_path / "bob", "bob", offer=("--root",))
    told = root_of(ana)
    assert told.startswith("1:SHA256:")
    assert told.count("SHA256:") == 2
    assert code(elsewhere(ana, tmp_path / "new"), "trust", "show")[0] == 0
    # As if one stolen key had made a chain of its own, where two have to have signed.
    alone = elsewhere(ana, tmp_path / "alone", SF_ROOT="2" + told[1:])
    assert code(alone, "trust", "show") == (4, "wrong-root")


def test_two_people_at_their_terminals(ana: Operator, tmp_path: Path) -> None:
    """As the README has it: bob is asked for the root fingerprint, ana for the invitation's."""
    bob = Operator(tmp_path / "home", tmp_path / "fleet")
    bob.home.mkdir()
    pull(bob, ana)
    file = tmp_path / "bob.invitation"
    theirs = at_terminal(bob, "key", "invitation", "--name", "bob", "--out", str(file))
    theirs.expect("Root fingerprint that a colleague reads out")
    theirs.sendline(root_of(ana))
    theirs.expect(r"its fingerprint is (SHA256:\S{43})")
    told = str(theirs.match.group(1))
    theirs.expect(pexpect.EOF)
    ours = at_terminal(ana, "key", "add", str(file))
    ours.expect(r"has the fingerprint (SHA256:\S{43})")
    assert ours.match.group(1) == told
    ours.sendline("y")
    ours.expect("Go on")
    ours.sendline("y")
    ours.expect(pexpect.EOF)
    pull(bob, ana)
    bob.run("system", "info", "--on", "all")


def at_terminal(operator: Operator, *argv: str) -> Any:
    return pexpect.spawn(
        str(SF), list(argv), cwd=operator.fleet, env=operator.environment(), encoding="utf-8", dimensions=(60, 500)
    )


def test_secrets_follow_those_who_come_and_go(ana: Operator, tmp_path: Path) -> None:
    ana.run("secret", "set", "db_password", "--stdin", input="hunter2\n")
    bob = join(ana, tmp_path / "bob", "bob")
    assert bob.run("secret", "show", "db_password").stdout.strip() == "hunter2"
    told = ana.run("key", "deploy", "ci", *GRANT, "--secret", "db_password", "--yes").stdout
    ci = elsewhere(ana, tmp_path / "ci", **dict(line.split("=", 1) for line in told.splitlines()))
    assert ci.run("secret", "show", "db_password").stdout.strip() == "hunter2"
    ana.run("secret", "set", "slack_ops", "--stdin", input="https://hooks\n")
    pull(ci, ana)
    assert ci.run("secret", "show", "slack_ops", check=False).returncode != 0
    said = ana.run("key", "revoke", "bob", "--yes").stderr
    assert "db_password" in said
    assert "sf secret rotate" in said
    ana.run("secret", "rotate", "db_password", "--stdin", input="hunter3\n")
    pull(bob, ana)
    assert bob.run("secret", "show", "db_password", check=False).returncode != 0
    for name in ("db_password", "slack_ops"):
        ana.run("secret", "remove", name, "--confirm", name)


# --- what fleet.toml wishes ------------------------------------------------------------------------------------------


def test_a_wish_counts_once_a_root_key_has_signed_it(ana: Operator, deployed: Operator) -> None:
    path = ana.fleet / "fleet.toml"
    before = path.read_text()
    path.write_text(before.replace('allow = ["service.restart"]', 'allow = ["service.*"]'))
    deployed_status = ("service", "status", "cron", "--on", "web1")
    assert code(deployed, *deployed_status)[0] == 4
    findings = ana.json("trust", "status")["data"]["findings"]
    assert any("grants something else" in row["finding"] for row in findings)
    assert "may now: service." in ana.run("trust", "sign", "--plan").stdout
    # Whatever else is changed meanwhile does not sign it in passing.
    ana.run("trust", "renew", "--expires", "800d", "--yes")
    assert code(deployed, *deployed_status)[0] == 4
    ana.run("trust", "sign", "--yes")
    pull(deployed, ana)
    # Unchanged where: only what is about cron.
    deployed.run("service", "status", "cron", "--on", "web1")
    path.write_text(before)
    ana.run("trust", "sign", "--yes")
    assert code(deployed, *deployed_status)[0] == 4


def test_a_wish_that_was_planted_is_not_signed_in_passing(ana: Operator) -> None:
    """Whoever may merge can write into fleet.toml: what an operator asks for on the command line is all they sign."""
    path = ana.fleet / "fleet.toml"
    before = path.read_text()
    path.write_text(before + '\n[[grants]]\nto = "ci"\nallow = ["*"]\non = "all"\n')
    ana.run("key", "deploy", "ci", *GRANT, "--yes")
    assert [row["may"] for row in keys(ana) if row["name"] == "ci"] == ["service.restart on web1 where unit=cron"]
    path.write_text(path.read_text() + '\n[[grants]]\nto = "ci"\nallow = ["*"]\non = "all"\n')
    ana.run("key", "grant", "ci", "--allow", "system.info", "--on", "web1", "--yes")
    assert "every action" not in next(row["may"] for row in keys(ana) if row["name"] == "ci")
    ana.run("key", "revoke", "ci", "--yes")
    assert path.read_text() == before


def test_a_new_server_joins_a_grant_by_selector_when_somebody_agrees(
    ana: Operator, deployed: Operator, fresh_target: Callable[..., Target]
) -> None:
    web2, web3 = fresh_target(), fresh_target()
    said = ana.add("web2", web2, "--role", "app").stderr
    assert "ci is not let in to web2" in said
    pull(deployed, ana)
    restart = ("service", "restart", "cron", "--on")
    assert code(deployed, *restart, "web2", "--yes")[0] == 4
    # --yes is for what the server needs.
    assert "ci is not let in to web3" in ana.add("web3", web3, "--role", "app", "--yes").stderr
    ana.run("trust", "sign", "--yes")
    pull(deployed, ana)
    for name in ("web2", "web3"):
        deployed.run(*restart, name, "--yes")
    for name in ("web2", "web3"):
        ana.run("server", "remove", name, "--confirm", name)


def test_a_wide_deploy_key_stays_as_it_was_signed(ana: Operator, fresh_target: Callable[..., Target]) -> None:
    """Whatever its grants look like, it is no operator: new servers and new actions are for those that root marked."""
    ana.run("key", "deploy", "wide", "--allow", "*", "--on", "@app", "--yes")
    ana.run("key", "deploy", "leave", "--allow", "server.*", "--on", "@app", "--yes")
    before = {row["name"]: row["may"] for row in keys(ana) if row["name"] in ("wide", "leave")}
    ana.run("server", "update", "--yes")
    ana.add("db2", fresh_target(), "--role", "db", "--yes")
    assert {row["name"]: row["may"] for row in keys(ana) if row["name"] in ("wide", "leave")} == before
    ana.run("server", "remove", "db2", "--confirm", "db2")


def test_two_who_sign_at_once_are_told(ana: Operator, servers: tuple[Target, Target], tmp_path: Path) -> None:
    """Each brings theirs to some servers: the number alone would look right."""
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root",))
    servers[1].run("systemctl", "stop", "ssh.socket", "ssh.service", check=False)
    ana.run("trust", "renew", "--expires", "700d", "--yes", check=False)
    servers[1].run("systemctl", "start", "ssh.service")
    servers[0].run("systemctl", "stop", "ssh.socket", "ssh.service", check=False)
    bob.run("trust", "renew", "--expires", "710d", "--yes", check=False)
    servers[0].run("systemctl", "start", "ssh.service")
    assert "two signed at once" in ana.run("trust", "status").stdout
    assert "another trust version" in ana.run("server", "check").stderr
    ana.run("trust", "renew", "--expires", "720d", "--yes")
    assert "two signed at once" not in ana.run("trust", "status").stdout
    ana.run("key", "revoke", "bob", "--yes")


# --- out of reach, lost, killed --------------------------------------------------------------------------------------


def test_a_revocation_reaches_a_server_on_its_next_contact_with_anybody(
    ana: Operator, deployed: Operator, servers: tuple[Target, Target], tmp_path: Path
) -> None:
    bob = join(ana, tmp_path / "bob", "bob")
    servers[0].run("systemctl", "stop", "ssh.socket", "ssh.service", check=False)
    revoked = ana.run("key", "revoke", "ci", "--yes", check=False)
    assert revoked.returncode == 10
    assert "not there yet: web1" in revoked.stderr
    servers[0].run("systemctl", "start", "ssh.service")
    pull(bob, ana)
    bob.run("system", "info", "--on", "web1")
    assert trust_of(servers[0]) == trust_of(servers[1])
    assert code(deployed, "service", "restart", "cron", "--on", "web1", "--yes") == (4, "ssh-key-refused")


@pytest.mark.parametrize("role", ["command", "root"])
def test_a_rotation_that_is_killed_anywhere_is_finished_by_somebody_else(
    fleet: Fleet, tmp_path: Path, role: str
) -> None:
    target = fleet.start_fresh("debian12")
    ana = new_operator(tmp_path)
    ana.add("web1", target)
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root", "--release"))

    def fingerprints(operator: Operator) -> list[str]:
        return [row["fingerprint"] for row in keys(operator) if (row["name"], row["role"]) == ("ana", role)]

    number, out = 0, cast("str | None", "")
    while out is not None:
        (before,) = fingerprints(ana)
        out = kill_at_line(ana, number, "key", "rotate", "ana", "--role", role, "--yes")
        ana.run("system", "info", "--on", "web1")
        pull(bob, ana)
        if len(fingerprints(bob)) == 2:
            bob.run("system", "info", "--on", "web1")
            bob.run("key", "rotate", "ana", "--role", role, "--yes")
            pull(ana, bob)
            ana.run("system", "info", "--on", "web1")
            assert before not in fingerprints(ana)
        number += 1
    assert number > 3
    ana.run("server", "rename", "web1", "web9", "--yes")
    fleet.remove(target)


def test_a_release_key_is_rotated(ana: Operator, servers: tuple[Target, Target]) -> None:
    before = {row["fingerprint"] for row in keys(ana)}
    ana.run("key", "rotate", "ana", "--role", "release", "--yes")
    assert len(before - {row["fingerprint"] for row in keys(ana)}) == 1
    ana.run("server", "update", "--yes")


def test_a_server_that_is_down_holds_up_the_end_of_a_rotation(ana: Operator, servers: tuple[Target, Target]) -> None:
    servers[1].run("systemctl", "stop", "ssh.socket", "ssh.service", check=False)
    begun = ana.run("key", "rotate", "ana", "--yes", check=False)
    assert begun.returncode == 10
    assert "both keys are valid until db1 can be reached" in begun.stderr
    ana.run("system", "info", "--on", "web1")
    servers[1].run("systemctl", "start", "ssh.service")
    ana.run("key", "rotate", "ana", "--yes")
    assert [row["name"] for row in keys(ana)].count("ana") == 3
    ana.run("system", "info", "--on", "all")


def test_a_lost_command_key_is_replaced_by_a_root_key_and_admin_access(
    fleet: Fleet, fresh_operator: Operator, tmp_path: Path
) -> None:
    target = fleet.start_fresh("debian12")
    fresh_operator.add("web1", target)
    backup = tmp_path / "usb"
    backup.mkdir()
    for name in ("root", "root.pub"):
        (backup / name).write_bytes((fresh_operator.private / name).read_bytes())
    (backup / "root").chmod(0o600)
    laptop = elsewhere(fresh_operator, tmp_path / "laptop")  # all but the backup is gone
    laptop.run("key", "import", str(backup / "root"), "--role", "root")
    made = laptop.json("key", "invitation", "--name", "ana2", "--release")["data"]
    (tmp_path / "invitation").write_text(made["invitation"])
    added = laptop.run(
        *("key", "add", str(tmp_path / "invitation"), "--fingerprint", made["fingerprint"], "--yes", "--release"),
        check=False,
    )
    assert added.returncode == 4, added.stderr  # signed, but no server lets the new key in yet
    laptop.add("web1", target)
    laptop.run("system", "info", "--on", "web1")
    lost = next(row["fingerprint"] for row in keys(laptop) if (row["name"], row["role"]) == ("ana", "command"))
    laptop.run("key", "revoke", lost, "--yes")
    assert code(fresh_operator, "system", "info", "--on", "web1")[0] == 4
    fleet.remove(target)


def test_a_lost_root_key_means_a_new_fleet_by_admin_access(
    fleet: Fleet, fresh_operator: Operator, tmp_path: Path
) -> None:
    target = fleet.start_fresh("debian12")
    fresh_operator.add("web1", target)
    (tmp_path / "again").mkdir()
    again = new_operator(tmp_path / "again")
    refused = again.add("web1", target, check=False)
    assert "another fleet" in refused.stderr
    target.run("rm", "-r", "/etc/serverflow/trust")
    again.add("web1", target)
    again.run("system", "info", "--on", "web1")
    eventually(lambda: code(fresh_operator, "system", "info", "--on", "web1")[0] == 4, "the old fleet is out")
    fleet.remove(target)
