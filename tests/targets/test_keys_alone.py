"""`sf key` and `sf trust` where no server is needed: what interrupted and repeated runs, thieves and thresholds do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serverflow_cli.trust import chain, sshsig, trustfile
from serverflow_cli.trust import keys as key_files

from .operator import SF, Operator, elsewhere, join, pull

NARROW = ("--allow", "service.restart", "--on", "web1", "--where", "unit=cron")


@pytest.fixture
def ana(fresh_operator: Operator) -> Operator:
    """A fleet with a server that was never enrolled, so that nobody is contacted."""
    with (fresh_operator.fleet / "fleet.toml").open("a") as file:
        file.write('\n[servers.web1]\nhost = "198.51.100.7"\n')
    return fresh_operator


def keys(operator: Operator) -> list[dict[str, Any]]:
    return list(operator.json("key", "list")["data"]["keys"])


def prints(operator: Operator, name: str, role: str = "command") -> list[str]:
    return [row["fingerprint"] for row in keys(operator) if (row["name"], row["role"]) == (name, role)]


def code(operator: Operator, *argv: str) -> tuple[int, str]:
    done = operator.run("--json", *argv, check=False)
    error = json.loads(done.stdout)["error"]
    return done.returncode, error["code"] if error else ""


def into_nothing(operator: Operator, *argv: str) -> int:
    """Run `sf` with a full disk as its output."""
    line = ["sh", "-c", '"$@" > /dev/full', "sh", str(SF), *argv]
    return subprocess.run(line, capture_output=True, cwd=operator.fleet, env=operator.environment()).returncode


def two_of_three(ana: Operator, folder: Path) -> tuple[Operator, Operator]:
    bob = join(ana, folder / "bob", "bob", offer=("--root", "--release"))
    carol = join(ana, folder / "carol", "carol", offer=("--root",))
    assert code(ana, "trust", "threshold", "2", "--yes") == (13, "needs-signatures")
    signed(ana, bob)
    pull(carol, ana)
    return bob, carol


def signed(first: Operator, second: Operator) -> None:
    """What one proposes, another signs; both have it then."""
    pull(second, first)
    second.run("trust", "sign", "--yes")
    pull(first, second)


# --- root and release keys -------------------------------------------------------------------------------------------


def test_a_root_key_that_is_rotated_never_has_two_votes(ana: Operator, tmp_path: Path) -> None:
    bob, _ = two_of_three(ana, tmp_path)
    before = prints(ana, "ana", "root")
    assert code(ana, "key", "rotate", "ana", "--role", "root", "--yes") == (13, "needs-signatures")
    signed(ana, bob)
    assert len([row for row in keys(ana) if row["role"] == "root"]) == 3
    assert prints(ana, "ana", "root") != before
    # The old one is worth nothing, and the new one alone is not enough.
    assert code(ana, "trust", "threshold", "1", "--yes") == (13, "needs-signatures")
    ana.run("trust", "discard", "--yes")


def test_whoever_has_no_root_key_changes_nothing(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob")
    ana.run("key", "deploy", "ci", *NARROW, "--yes")
    pull(bob, ana)
    before = (bob.fleet / "fleet.toml").read_text()
    for argv in (
        ("key", "deploy", "more", "--allow", "*", "--on", "all", "--yes"),
        ("key", "revoke", "ci", "--yes"),
        ("key", "grant", "ci", "--allow", "*", "--on", "all", "--yes"),
        ("key", "rotate", "ci", "--yes"),
    ):
        assert code(bob, *argv) == (4, "no-root-key"), argv
    assert (bob.fleet / "fleet.toml").read_text() == before
    assert not list(bob.private.glob("deploy-*"))


def test_pins_that_only_a_thief_signed_are_shown_before_they_are_signed_anew(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob", offer=("--root", "--release"))
    fleet_id = json.loads((ana.fleet / "trust/1.json").read_text())["fleet"]
    identity = key_files.new_private_key("").openssh
    entry = f'''[pins.web1]
host_keys = ["{identity}"]
origin = "prompt"
pinned_at = "2026-01-01T00:00:00+00:00"
address = "198.51.100.9:22"
server_id = "{"ab" * 32}"
identity = "{identity}"
next_identity = ""
next_host_key = ""
former = []
'''
    data = f'schema = 1\nversion = 9\nfleet = "{fleet_id}"\n\n{entry}'.encode()
    stolen = key_files.load(bob.private / "root")
    (ana.fleet / "pins.toml").write_bytes(data)
    (ana.fleet / "pins.toml.sig").write_text(sshsig.armor(sshsig.sign(stolen, sshsig.PINS, data)))
    planned = ana.run("key", "revoke", "bob", "--plan").stdout
    assert "pins.toml" in planned
    assert "only bob signed it" in planned
    assert "web1: identity SHA256:" in planned


def test_a_bundle_that_only_a_thief_signed_is_not_signed_anew(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob", offer=("--release",))
    manifest = json.loads((ana.fleet / "bundle.json").read_text())
    manifest["version"] += 1
    manifest["files"][0]["sha256"] = "ab" * 32
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    original = (ana.fleet / "bundle.json").read_text()
    data = text.encode() if original.startswith("{\n") else json.dumps(manifest, separators=(",", ":")).encode()
    stolen = key_files.load(bob.private / "release")
    (ana.fleet / "bundle.json").write_bytes(data)
    (ana.fleet / "bundle.json.sig").write_text(sshsig.armor(sshsig.sign(stolen, sshsig.BUNDLE, data)))
    ana.run("key", "revoke", "bob", "--yes")
    ours = key_files.load(ana.private / "release").public_key
    blobs = sshsig.dearmor((ana.fleet / "bundle.json.sig").read_text())
    assert ours not in {sshsig.signer_of(blob, sshsig.BUNDLE, data) for blob in blobs}


def test_a_proposal_that_gives_something_for_later_is_shown(ana: Operator, tmp_path: Path) -> None:
    """A grant on no server yet, planted by whoever may merge: it must not look like nothing."""
    trust = chain.load_chain(ana.fleet / "trust", None)
    stranger = key_files.new_private_key("backup")
    grant = trustfile.Grant(("service.restart", "user.create"))
    key = trustfile.CommandKey("backup", stranger.public_key, trust.expires, (grant,))
    after = chain.successor(trust, command=(*trust.command, key))
    proposed = ana.fleet / "trust/proposed"
    proposed.mkdir()
    (proposed / f"{after.version}.json").write_bytes(trustfile.body(after))
    planned = ana.run("trust", "sign", "--plan")
    assert "user.create on no server yet" in planned.stdout
    assert "was signed by nobody" in planned.stderr
    # It holds up nobody either.
    ana.run("key", "deploy", "ci", *NARROW, "--yes")


@pytest.mark.parametrize("plant", ["{}", None])
def test_what_is_damaged_in_the_way_holds_up_no_revocation(ana: Operator, plant: str | None) -> None:
    ana.run("key", "deploy", "ci", *NARROW, "--yes")
    proposed = ana.fleet / "trust/proposed" / "3.json"
    proposed.parent.mkdir()
    proposed.mkdir() if plant is None else proposed.write_text(plant)
    assert "damaged" in ana.run("trust", "status", check=False).stdout
    ana.run("key", "revoke", "ci", "--yes")
    assert not proposed.parent.exists()


# --- deploy keys -----------------------------------------------------------------------------------------------------


def test_an_interrupted_deployment_never_gives_other_rights_than_were_asked_for(ana: Operator) -> None:
    wide = ("key", "deploy", "ci", "--allow", "service.*", "--on", "all", "--expires", "365d", "--yes")
    assert into_nothing(ana, *wide) != 0
    assert code(ana, "key", "deploy", "ci", *NARROW, "--yes") == (2, "usage")
    assert "SF_KEY=" in ana.run(*wide).stdout
    assert code(ana, *wide) == (2, "usage")  # it was told


def test_a_revoked_deploy_key_does_not_come_back(ana: Operator) -> None:
    assert into_nothing(ana, "key", "deploy", "ci", *NARROW, "--yes") != 0
    before = prints(ana, "ci")
    ana.run("key", "revoke", "ci", "--yes")
    ana.run("key", "deploy", "ci", *NARROW, "--yes")
    assert prints(ana, "ci") != before


def test_a_rotated_deploy_key_is_told_before_the_old_one_goes(ana: Operator, tmp_path: Path) -> None:
    ana.run("key", "deploy", "ci", *NARROW, "--yes")
    (old,) = prints(ana, "ci")
    assert into_nothing(ana, "key", "rotate", "ci", "--yes") != 0
    assert "SF_KEY=" in ana.run("key", "rotate", "ci", "--yes").stdout
    assert prints(ana, "ci")[0] == old
    ana.run("key", "rotate", "ci", "--yes")
    assert old not in prints(ana, "ci")
    # The same where another has to sign in between.
    bob, _ = two_of_three(ana, tmp_path)
    (old,) = prints(ana, "ci")
    assert code(ana, "key", "rotate", "ci", "--yes") == (13, "needs-signatures")
    signed(ana, bob)
    assert "SF_KEY=" in ana.run("key", "rotate", "ci", "--yes").stdout
    assert prints(ana, "ci")[0] == old


def test_nothing_is_written_into_the_fleet_folder(ana: Operator) -> None:
    refused = ana.run("key", "deploy", "ci", *NARROW, "--out", "ci.env", "--yes", check=False)
    assert refused.returncode == 2
    assert "fleet folder" in refused.stderr
    assert not (ana.fleet / "ci.env").exists()


def test_a_deploy_key_goes_into_a_file_for_its_owner_alone(ana: Operator, tmp_path: Path) -> None:
    out = tmp_path / "ci.env"
    assert "SF_KEY" not in ana.run("key", "deploy", "ci", *NARROW, "--out", str(out), "--yes").stdout
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.read_text().startswith("SF_KEY=")


def test_an_operator_with_narrow_grants_is_no_ci_system(ana: Operator, tmp_path: Path) -> None:
    join(ana, tmp_path / "bob", "bob", *NARROW)
    assert code(ana, "key", "rotate", "bob", "--yes") == (4, "not-ours")


# --- the own key -----------------------------------------------------------------------------------------------------


def test_undoing_one_rotation_leaves_another_alone(ana: Operator) -> None:
    ana.run("key", "deploy", "ci", *NARROW, "--yes")
    # As if a server had been out of reach: both of ana's keys are signed in.
    trust = chain.load_chain(ana.fleet / "trust", None)
    following = key_files.generate(ana.private / "command.next", "ana")
    mine = next(key for key in trust.command if key.name == "ana")
    login = (key_files.public_line(following.public_key),)
    new = replace(mine, public_key=following.public_key, ssh=login)
    after = chain.successor(trust, command=(mine, new, *(key for key in trust.command if key.name != "ana")))
    chain.write_version(ana.fleet / "trust", after, [key_files.load(ana.private / "root")])
    ana.run("key", "rotate", "ci", "--yes")
    ana.run("key", "rotate", "ci", "--undo", "--yes")
    assert (ana.private / "command.next").exists()
    # And without the new key the old one is not given up.
    (ana.private / "command.next").rename(ana.private / "aside")
    assert code(ana, "key", "rotate", "ana", "--yes") == (4, "trust")
    (ana.private / "aside").rename(ana.private / "command.next")
    ana.run("key", "rotate", "ana", "--yes")
    assert len(prints(ana, "ana")) == 1


def test_an_invitation_with_somebody_elses_key_is_refused(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob")
    made = bob.json("key", "invitation", "--name", "mallory")["data"]
    (tmp_path / "invitation").write_text(made["invitation"])
    add = ("key", "add", str(tmp_path / "invitation"), "--fingerprint", made["fingerprint"], "--yes")
    assert code(ana, *add) == (2, "usage")


def test_the_first_contact_of_a_clone(ana: Operator, tmp_path: Path) -> None:
    two_of_three(ana, tmp_path)
    new = elsewhere(ana, tmp_path / "new")
    assert new.variables["SF_ROOT"].startswith("2:SHA256:")
    new.run("trust", "show")
    Operator(new.home, new.fleet).run("trust", "show")


def test_a_bundle_whose_only_signer_left_is_signed_anew_by_another(ana: Operator, tmp_path: Path) -> None:
    bob = join(ana, tmp_path / "bob", "bob", offer=("--release",))
    carol = join(ana, tmp_path / "carol", "carol", offer=("--root",))
    data = (ana.fleet / "bundle.json").read_bytes()
    theirs = sshsig.armor(sshsig.sign(key_files.load(bob.private / "release"), sshsig.BUNDLE, data))
    (ana.fleet / "bundle.json.sig").write_text(theirs)
    pull(carol, ana)
    said = carol.run("key", "revoke", "bob", "--yes").stderr
    assert "a release key's holder runs sf registry sign" in said
    fresh = elsewhere(carol, tmp_path / "fresh")  # ana's second laptop, which has seen no bundle yet
    for name in ("command", "root", "release"):
        fresh.run("key", "import", str(ana.private / name), "--role", name, "--copy")
    fresh.run("registry", "sign", "--yes")
    assert fresh.json("registry", "show")["data"]["same_as_installed"]
