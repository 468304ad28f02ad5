"""The signed bundle in the fleet folder: read, compared and signed, by one release key's holder or by several."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import PlanChanged, SfError, TrustError
from serverflow_cli.flows import bundles, registry
from serverflow_cli.flows.init import init
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult
from serverflow_cli.trust import anchor, bundle, chain, keys, seen, sshsig
from serverflow_cli.trust.trustfile import Role, RootKey

Machine = Callable[[str], Workspace]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A colleague's machine: keys and memory of their own, the same fleet folder. `ana` has made the fleet."""

    def at(who: str) -> Workspace:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / who))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / who))
        return Workspace(FleetFolder(tmp_path / "fleet"), Settings())

    at("ana")
    asyncio.run(init(str(tmp_path / "fleet"), key=None, name="ana", settings=Settings(), ask=None))
    return at


@pytest.fixture
def ana(machine: Machine) -> Workspace:
    return machine("ana")


@dataclass(frozen=True)
class Team:
    """Three holders of a release key."""

    machine: Machine

    def at(self, who: str) -> Workspace:
        return self.machine(who)


@pytest.fixture
def team(machine: Machine, tmp_path: Path) -> Team:
    """2 of ana, bob and cem must sign; the first bundle was signed by ana alone, before that."""
    ana = machine("ana")
    private, trust = ana.private, ana.trust
    listed = list(trust.release.keys)
    for who in ("bob", "cem"):
        theirs = tmp_path / who / "serverflow" / ana.fleet_id
        theirs.mkdir(parents=True)
        listed.append(RootKey(who, keys.generate(theirs / "release", who).public_key))
        shutil.copy(private / "command", theirs / "command")
    chain.write_version(
        ana.folder.trust, chain.successor(trust, release=Role(2, tuple(listed))), [keys.load(private / "root")]
    )
    for who in ("bob", "cem"):
        anchor.save(
            tmp_path / who / "serverflow" / ana.fleet_id / "anchor.json",
            chain.anchor_of(chain.load_chain(ana.folder.trust, None)),
        )
    return Team(machine)


def put(workspace: Workspace, manifest: bytes, *signers: sshsig.Signer, name: str = "bundle.json") -> None:
    """A bundle in the fleet folder, as anybody who may merge there can put it."""
    path = workspace.folder.path / name
    path.write_bytes(manifest)
    armored = "".join(sshsig.armor(sshsig.sign(signer, sshsig.BUNDLE, manifest)) for signer in signers)
    path.with_name(f"{name}.sig").write_text(armored)


def other(version: int, **files: bytes) -> bytes:
    """A bundle of another sf: what ours has, but for `files`."""
    changed = {name.replace("__", "/") + ".py": data for name, data in files.items()}
    return bundle.manifest(version, {**bundle.collect(), **changed})


def put_older(workspace: Workspace, version: int = 1) -> None:
    """The fleet's bundle is one that an older sf made, rightly signed and as yet unseen."""
    files = {**bundle.collect(), "verify.py": b"# older\n", "gone.py": b""}
    del files["serverflow_actions/service/restart.py"], files["broker.py"]
    put(workspace, bundle.manifest(version, files), workspace.release_signer())


def show(workspace: Workspace) -> CommandResult:
    return asyncio.run(registry.show(workspace))


def diff(workspace: Workspace) -> CommandResult:
    return asyncio.run(registry.diff(workspace))


def sign(
    workspace: Workspace, approve: Callable[[CommandResult], bool] = lambda _: True, *, plan: bool = False
) -> CommandResult:
    return asyncio.run(registry.sign(workspace, plan=plan, approve=approve))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(SfError) as caught:
        call()
    return caught.value.code


def folder(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.folder.path.glob("bundle*")}


# --- one release key -------------------------------------------------------------------------------------------------


def test_a_new_fleet_has_the_bundle_of_the_installed_sf(ana: Workspace) -> None:
    shown = show(ana)
    files = bundle.collect()
    assert {key: shown.data[key] for key in ("version", "signed_by", "signatures_needed", "same_as_installed")} == {
        "version": 1, "signed_by": ["ana"], "signatures_needed": 1, "same_as_installed": True,
    }  # fmt: skip
    assert shown.data["files"] == len(files)
    assert shown.data["actions"] == len(json.loads(files["registry.json"])["actions"])
    assert shown.notes == ()
    compared = diff(ana)
    assert compared.data["same"] is True
    assert compared.data["files"] == compared.data["actions"] == {"added": [], "removed": [], "changed": []}
    assert compared.notes[0].startswith("the same")
    assert compared.servers[0].reply is not None
    assert not compared.servers[0].reply.changes


def test_what_differs_is_told_by_action_and_by_file(ana: Workspace) -> None:
    put_older(ana)
    found = diff(ana).data
    assert found["same"] is False
    assert found["actions"] == {"added": ["service.restart"], "removed": [], "changed": []}
    assert found["files"] == {
        "added": ["broker.py", "serverflow_actions/service/restart.py"], "removed": ["gone.py"],
        "changed": ["verify.py"],
    }  # fmt: skip
    assert show(ana).data["same_as_installed"] is False


def test_signing_makes_the_next_version(ana: Workspace) -> None:
    put_older(ana)
    before = folder(ana)
    asked: list[CommandResult] = []
    assert sign(ana, plan=True).servers[0].outcome == "done"

    def decline(planned: CommandResult) -> bool:
        asked.append(planned)
        return False

    assert code(lambda: sign(ana, decline)) == "declined"
    assert folder(ana) == before
    (planned,) = asked
    reply = planned.servers[0].reply
    assert reply is not None
    assert ("update", "bundle") in {(change.verb, change.kind) for change in reply.changes}
    assert ("create", "action", "service.restart") in {change[:3] for change in reply.changes}
    sign(ana)
    assert bundles.current(ana).version == 2
    assert set(folder(ana)) == {"bundle.json", "bundle.json.sig"}
    after = folder(ana)
    assert "is signed" in sign(ana).notes[0]
    assert folder(ana) == after


def test_ensure_signs_by_itself(ana: Workspace) -> None:
    put_older(ana)
    told: list[str] = []
    made = bundles.ensure(ana, lambda event: told.append(str(event["text"])))
    assert (made.version, told) == (2, ["signing bundle version 2"])
    assert len(made.files) == len(bundle.collect())
    assert bundles.ensure(ana, lambda event: told.append("again")).version == 2
    assert len(told) == 1


def test_an_older_sf_does_not_take_actions_away_by_accident(ana: Workspace) -> None:
    put(ana, other(1, serverflow_actions__service__levitate=b"new = True\n"), ana.release_signer())
    assert code(lambda: bundles.ensure(ana, lambda _: None)) == "older-sf"
    version, notes = bundles.preview(ana)
    assert version == 0
    assert "service.levitate" in notes[0]
    sign(ana)  # on purpose
    assert bundles.current(ana).version == 2


def test_nothing_is_signed_without_the_role(ana: Workspace) -> None:
    put_older(ana)
    before = folder(ana)
    (ana.private / "release").unlink()
    assert code(lambda: sign(ana)) == "no-release-key"
    stranger = keys.new_private_key("stranger")
    with pytest.raises(TrustError, match="not one of this fleet's"):
        bundles.sign(ana, bundles.draft(ana), stranger)
    assert folder(ana) == before


# --- a folder that somebody with merge rights has changed ------------------------------------------------------------


TAMPERED = {
    "a byte of a hash": lambda text: text.replace(b'"sha256": "', b'"sha256": "0', 1).replace(b'",\n', b'",\n', 1),
    "another hash": lambda text: text.replace(text.split(b'"sha256": "')[1][:8], b"00000000", 1),
    "another version": lambda text: text.replace(b'"version": 1', b'"version": 9007199254740990'),
    "another form": lambda text: text.replace(b"\n ", b"\n  "),
    "not JSON": lambda text: b"{",
    "empty": lambda text: b"",
    "a list": lambda text: b"[]",
    "deep": lambda text: b"[" * 100_000,
    "a long number": lambda text: text.replace(b'"version": 1', b'"version": 1' + b"0" * 5000),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_a_bundle_that_was_tampered_with_is_refused_and_never_followed(
    ana: Workspace, tamper: Callable[[bytes], bytes]
) -> None:
    path = ana.folder.path / "bundle.json"
    path.write_bytes(tamper(path.read_bytes()))
    before = folder(ana)
    calls: tuple[Callable[[], object], ...] = (
        lambda: show(ana),
        lambda: diff(ana),
        lambda: sign(ana),
        lambda: bundles.ensure(ana, lambda _: None),
        lambda: bundles.preview(ana),
    )
    for call in calls:
        with pytest.raises(TrustError, match=r"bundle\.json is (damaged|not signed)") as caught:
            call()
        assert caught.value.hint == "git log bundle.json"
    assert folder(ana) == before


@pytest.mark.parametrize(
    "signature", ["", "x", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n", "é"]
)
def test_signatures_that_are_none(ana: Workspace, signature: str) -> None:
    (ana.folder.path / "bundle.json.sig").write_text(signature)
    with pytest.raises(TrustError):
        bundles.current(Workspace(ana.folder, ana.settings))
    with pytest.raises(TrustError):
        sign(ana)


def test_keys_of_other_roles_sign_no_bundle(ana: Workspace) -> None:
    for role in ("root", "command"):
        put(ana, other(2, verify=b"# evil\n"), keys.load(ana.private / role))
        with pytest.raises(TrustError, match="not signed by a release key"):
            show(ana)


def test_an_older_version_with_its_true_signature_does_not_come_back(ana: Workspace) -> None:
    put_older(ana)
    old = folder(ana)
    sign(ana)
    for name, data in old.items():
        (ana.folder.path / name).write_bytes(data)
    for call in (show, diff, sign, bundles.preview):
        assert code(lambda call=call: call(ana)) == "older-version"  # type: ignore[misc]
    assert code(lambda: bundles.ensure(ana, lambda _: None)) == "older-version"
    assert folder(ana) == old


def test_two_versions_of_one_number_are_noticed_and_followed_by_a_third(ana: Workspace) -> None:
    """Two release holders signed at once, in two clones."""
    put_older(ana)
    sign(ana)
    put(ana, other(2, verify=b"# theirs\n"), ana.release_signer())
    assert code(lambda: bundles.ensure(ana, lambda _: None)) == "bundle-forked"
    sign(ana)
    assert bundles.current(ana).version == 3


def test_a_damaged_memory_is_not_guessed_anew(ana: Workspace) -> None:
    show(ana)
    path = ana.private / "bundle.seen.json"
    assert seen.load(path).version == 1
    for text in ("", "{}", "[]", '{"version": 0, "sha256": ""}', '{"version": true, "sha256": "x"}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(TrustError, match="damaged"):
            show(ana)


def test_a_crash_between_signature_and_manifest_leaves_the_old_bundle(ana: Workspace) -> None:
    put_older(ana)
    new = bundle.manifest(2, bundle.collect())
    path = ana.folder.path / "bundle.json.sig"
    path.write_text(sshsig.armor(sshsig.sign(ana.release_signer(), sshsig.BUNDLE, new)) + path.read_text())
    assert show(ana).data["version"] == 1
    sign(ana)
    assert bundles.current(ana).version == 2


# --- several release keys --------------------------------------------------------------------------------------------


def test_a_bundle_of_before_the_threshold_wants_more_signatures_and_the_same_bytes(team: Team) -> None:
    ana = team.at("ana")
    assert show(ana).notes == ("too few signatures: 1 more of bob, cem must sign: sf registry sign",)
    with pytest.raises(TrustError, match="too few release keys") as caught:
        bundles.current(ana)
    assert caught.value.code == "bundle-unsigned"
    assert code(lambda: bundles.ensure(ana, lambda _: None)) == "release-threshold"
    manifest = folder(ana)["bundle.json"]
    sign(team.at("bob"))
    assert bundles.current(team.at("ana")).version == 1
    assert folder(ana)["bundle.json"] == manifest


def test_a_proposal_waits_for_the_second_signature(team: Team) -> None:
    ana = team.at("ana")
    put_older(ana)
    before = folder(ana)
    assert "1 more of bob, cem must sign" in sign(ana).notes[0]
    assert {name: folder(ana)[name] for name in before} == before
    assert set(folder(ana)) - set(before) == {"bundle.proposed.json", "bundle.proposed.json.sig"}
    proposed = show(ana).data["proposed"]
    assert (proposed["version"], proposed["signed_by"], proposed["signatures_needed"]) == (2, ["ana"], 2)
    waiting = folder(ana)
    assert "1 more of bob, cem must sign" in sign(ana).notes[0]
    assert folder(ana) == waiting
    cem = team.at("cem")
    assert "is signed" in sign(cem).notes[0]
    assert set(folder(cem)) == {"bundle.json", "bundle.json.sig"}
    signed = bundles.current(team.at("bob"))
    assert (signed.version, signed.manifest) == (2, waiting["bundle.proposed.json"])
    assert len(sshsig.dearmor(signed.signature)) == 2


def test_one_of_two_release_keys_vouches_for_nothing(team: Team) -> None:
    """ana's key was stolen. What it alone signed is no base: whoever approves sees all that is to be signed."""
    bob, thief = team.at("bob"), team.at("ana").release_signer()
    put(bob, other(7, verify=b"# evil\n"), thief)
    assert code(lambda: bundles.stored(bob)) == "bundle-unsigned"
    assert code(lambda: diff(bob)) == "bundle-unsigned"
    assert show(bob).data["signed_by"] == ["ana"]
    planned = sign(bob, plan=True).servers[0].reply
    assert planned is not None
    assert {change.verb for change in planned.changes if change.kind in ("action", "file")} == {"create"}
    assert "verify.py" in {change.name for change in planned.changes}


def test_what_was_verified_here_stays_a_base_and_nothing_like_it(team: Team) -> None:
    bob, holders = team.at("bob"), [team.at(who).release_signer() for who in ("ana", "bob")]
    put(team.at("bob"), other(7, verify=b"# older\n"), *holders)
    show(bob)
    put(bob, other(7, verify=b"# older\n"), holders[0])
    assert bundles.stored(bob).version == 7
    assert diff(bob).data["files"]["changed"] == ["verify.py"]
    put(bob, other(8, verify=b"# older\n"), holders[0])
    assert code(lambda: bundles.stored(bob)) == "bundle-unsigned"


@pytest.mark.parametrize(("version", "refused"), [(1001, ""), (1002, "bundle-jump"), (2**31, "bundle-jump")])
def test_nobody_burns_the_numbers(ana: Workspace, version: int, refused: str) -> None:
    show(ana)
    put(ana, bundle.manifest(version, bundle.collect()), ana.release_signer())
    if refused:
        assert code(lambda: bundles.stored(ana)) == code(lambda: sign(ana)) == refused
        assert seen.load(ana.private / "bundle.seen.json").version == 1
    else:
        assert bundles.current(ana).version == version


@pytest.mark.parametrize("version", [2**31 + 1, 2**53 - 1])
def test_no_fleet_has_so_many_bundles(version: int) -> None:
    with pytest.raises(TrustError, match="damaged"):
        bundle.parse(bundle.manifest(version, {"a": b""}))


def test_trust_still_goes_out_while_signatures_are_missing(team: Team) -> None:
    ana = team.at("ana")
    put_older(ana)
    version, notes = bundles.preview(ana)
    assert version == 0
    assert "2 release keys have to sign" in notes[0]
    assert "sf registry sign" in notes[0]


def test_nobody_signs_what_their_own_sf_does_not_build(team: Team) -> None:
    ana = team.at("ana")
    put_older(ana)
    manifest = other(2, verify=b"def ed25519_verify(*_): return True\n")
    put(ana, manifest, ana.release_signer(), name="bundle.proposed.json")
    before = folder(ana)
    bob = team.at("bob")
    assert code(lambda: sign(bob)) == "proposal-differs"
    assert folder(bob) == before
    assert "ana proposed" in bundles.preview(bob)[1][0]


def test_a_proposal_counts_for_its_version_and_with_a_signature_only(team: Team) -> None:
    ana = team.at("ana")
    put_older(ana)
    stranger = keys.new_private_key("stranger")
    for manifest, signer in (
        (other(2, verify=b"# evil\n"), stranger),
        (other(3, verify=b"# evil\n"), ana.release_signer()),
        (b"{}", stranger),
    ):
        put(ana, manifest, signer, name="bundle.proposed.json")
        assert "proposed" not in show(ana).data
    sign(ana)
    assert show(ana).data["proposed"]["signed_by"] == ["ana"]


def test_a_key_counts_once_however_often_it_signs(team: Team) -> None:
    ana = team.at("ana")
    release = ana.release_signer()
    put(ana, bundle.manifest(2, bundle.collect()), release, release, release)
    assert code(lambda: bundles.current(ana)) == "bundle-unsigned"


def test_a_signature_on_what_has_changed_meanwhile_is_not_made(team: Team) -> None:
    """bob was shown version 2; while he read, somebody completed another one."""
    bob = team.at("bob")
    put_older(team.at("ana"))
    shown = bundles.draft(team.at("bob"))
    ana, cem = team.at("ana").release_signer(), team.at("cem").release_signer()
    put(bob, other(2, verify=b"# theirs\n"), ana, cem)
    before = folder(bob)
    bob = team.at("bob")
    with pytest.raises(PlanChanged) as caught:
        bundles.sign(bob, shown, bob.release_signer())
    assert caught.value.exit_code == 9
    assert folder(bob) == before


def test_a_replaced_release_key_signs_the_same_bytes_again(ana: Workspace) -> None:
    """The old key is gone from the trust file, so its signature counts no more; this machine knows the bundle."""
    show(ana)
    for name in ("release", "release.pub"):
        (ana.private / name).rename(ana.private / f"lost.{name}")
    fresh = keys.generate(ana.private / "release", "ana")
    role = Role(1, (RootKey("ana", fresh.public_key),))
    chain.write_version(ana.folder.trust, chain.successor(ana.trust, release=role), [keys.load(ana.private / "root")])
    ana = Workspace(ana.folder, ana.settings)
    manifest = folder(ana)["bundle.json"]
    assert bundles.ensure(ana, lambda _: None).version == 1
    assert folder(ana)["bundle.json"] == manifest
    assert show(ana).data["signed_by"] == ["ana"]


def test_a_manifest_is_read_as_it_is_written() -> None:
    files = bundle.collect()
    read = bundle.parse(bundle.manifest(7, files))
    assert (read.version, set(read.files)) == (7, set(files))
    assert set(read.actions) == set(json.loads(files["registry.json"])["actions"])
    assert set(read.other_files).isdisjoint(f"serverflow_actions/{name.replace('.', '/')}.py" for name in read.actions)
    assert dataclasses.replace(read, version=8) == bundle.parse(bundle.manifest(8, files))
