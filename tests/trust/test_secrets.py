"""secrets.toml across operators, machines and changes of trust; and what merge rights can do to it."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serverflow_cli.config import secrets
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import ConfigError, PlanChanged, SfError, TrustError, UsageError
from serverflow_cli.flows import keys as flows_keys
from serverflow_cli.flows import sealing, vault
from serverflow_cli.flows import secrets as flow
from serverflow_cli.flows.init import init
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.trust import chain, keys, seal, sshsig
from serverflow_cli.trust.keys import PrivateKey
from serverflow_cli.trust.seal import SealKey
from serverflow_cli.trust.trustfile import CommandKey, Seal

DAY_MS = 86_400_000


class Holder:
    """Someone whose keys come from the environment, on a machine of their own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.command: PrivateKey = keys.new_private_key(name)
        self.seal: SealKey = seal.new_seal_key()


class Team:
    """A fleet that ana began. Each person's machine has its own memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home, self._monkeypatch, self._machines = folder, monkeypatch, 0
        self.fleet = FleetFolder(folder / "fleet")
        self._at("ana")
        done = asyncio.run(init(str(self.fleet.path), key=None, name="ana", settings=Settings(), ask=None))
        self.root = done.data["root"]

    def _at(self, machine: str) -> None:
        self._monkeypatch.setenv("XDG_DATA_HOME", str(self._home / machine))
        self._monkeypatch.setenv("XDG_STATE_HOME", str(self._home / machine))

    def ana(self) -> Workspace:
        self._at("ana")
        return Workspace(self.fleet, Settings())

    def as_(self, holder: Holder, machine: str = "") -> Workspace:
        self._at(machine or holder.name)
        settings = Settings(key=keys.private_text(holder.command), seal_key=holder.seal.text, root=self.root)
        return Workspace(self.fleet, settings)

    def elsewhere(self) -> Workspace:
        """A machine that saw the file never before."""
        self._machines += 1
        self._at(f"machine{self._machines}")
        return Workspace(self.fleet, Settings(root=self.root))

    def change(self, command: Callable[[tuple[CommandKey, ...]], tuple[CommandKey, ...]]) -> None:
        """Sign the next trust version, and stop there, as a crash before `reseal` would."""
        workspace = self.ana()
        after = chain.successor(workspace.trust, command=command(workspace.trust.command))
        chain.write_version(self.fleet.trust, after, workspace.root_signers(after))

    def add(self, holder: Holder, *names: str, **fields: Any) -> None:
        """Sign a key in, for these secrets, or for all."""
        key = CommandKey(
            holder.name,
            holder.command.public_key,
            4_000_000_000_000,
            (),
            seal=Seal(holder.seal.public, names or ("*",)),
        )
        self.change(lambda command: (*command, replace(key, **fields)))

    def drop(self, public_key: bytes) -> None:
        self.change(lambda command: tuple(key for key in command if key.public_key != public_key))

    def put(self, name: str, value: str, who: Workspace | None = None) -> CommandResult:
        return asyncio.run(flow.set_secret(who or self.ana(), name, lambda: value, plan=False))

    def holders(self, name: str) -> list[str]:
        return sorted(map(secrets.holder, vault.read(self.ana()).boxes[name]))


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    return Team(tmp_path, monkeypatch)


BOB, CI = Holder("bob"), Holder("ci")


def listed(workspace: Workspace) -> dict[str, str]:
    rows = asyncio.run(flow.list_secrets(workspace)).data["secrets"]
    return {row["name"]: row["state"] for row in rows}


def forge(team: Team, content: secrets.Content, *signers: PrivateKey) -> None:
    """Write the file as someone with merge rights could: signed by any key they have, or by none."""
    data = secrets.dump(content)
    team.fleet.secrets_toml.write_bytes(data)
    blobs = [sshsig.armor(sshsig.sign(signer, sshsig.SECRETS, data)) for signer in signers]
    secrets.signature_path(team.fleet).write_text("".join(blobs))


def content(team: Team) -> secrets.Content:
    return secrets.parse(team.fleet.secrets_toml.read_bytes())


# --- who opens what ---------------------------------------------------------------------------------------------------


def test_operators_open_all_and_a_deploy_key_what_it_was_granted(team: Team) -> None:
    team.add(BOB)
    team.add(CI, "deploy_hook")
    team.put("slack_ops", "https://hooks.example/")
    team.put("deploy_hook", "two\nlines\n")
    assert (team.holders("slack_ops"), team.holders("deploy_hook")) == (["ana", "bob"], ["ana", "bob", "ci"])
    assert sealing.open_secret(team.as_(BOB), "slack_ops") == "https://hooks.example/"
    assert sealing.open_secret(team.as_(CI), "deploy_hook") == "two\nlines\n"
    with pytest.raises(ConfigError, match="not sealed to this key") as refused:
        sealing.open_secret(team.as_(CI), "slack_ops")
    assert refused.value.hint == "it opens for ana, bob"


def test_who_may_not_open_all_may_not_change_any(team: Team) -> None:
    team.add(CI, "deploy_hook")
    team.put("deploy_hook", "v")
    before = team.fleet.secrets_toml.read_bytes()
    for act in (
        lambda: team.put("deploy_hook", "evil", team.as_(CI)),
        lambda: sealing.check_seal(team.as_(CI)),
        lambda: asyncio.run(flow.remove_secret(team.as_(CI), "deploy_hook", plan=False, approve=lambda _: True)),
    ):
        with pytest.raises(TrustError, match="may not change secrets"):
            act()
    assert team.fleet.secrets_toml.read_bytes() == before


def test_a_wish_in_fleet_toml_seals_to_nobody(team: Team) -> None:
    with team.fleet.fleet_toml.open("a") as file:
        sign = keys.public_line(BOB.command.public_key)
        file.write(f'\n[operators.bob]\nsign = "{sign}"\nseal = "{BOB.seal.public}"\n')
    team.put("slack_ops", "v")
    assert team.holders("slack_ops") == ["ana"]


def test_keys_outside_their_dates_get_nothing_and_sign_nothing(team: Team) -> None:
    team.add(BOB, expires=1_600_000_000_000)
    team.add(CI, not_before=3_900_000_000_000)
    team.put("slack_ops", "v")
    assert team.holders("slack_ops") == ["ana"]
    forge(team, replace(content(team), version=9), BOB.command, CI.command)
    with pytest.raises(TrustError, match="not signed by a key that may"):
        vault.read(team.ana())


# --- trust changes ----------------------------------------------------------------------------------------------------


def test_a_newcomer_gets_all_and_a_leaver_loses_all(team: Team) -> None:
    team.put("one", "1")
    team.put("two", "2")
    team.add(BOB)
    assert listed(team.ana()) == {"one": "out of date", "two": "out of date"}
    assert sealing.reseal(team.ana()) == ["sealed anew to whom the trust file names: one, two"]
    assert sealing.open_secret(team.as_(BOB), "two") == "2"
    bobs = next(key for key in team.ana().trust.command if key.name == "bob")
    assert sealing.readable_by(team.ana(), bobs) == ["one", "two"]
    team.drop(BOB.command.public_key)
    assert "out of date" in listed(team.ana()).values()
    sealing.reseal(team.ana())
    assert listed(team.ana()) == {"one": "ok", "two": "ok"}
    assert (team.holders("one"), sealing.readable_by(team.ana(), bobs)) == (["ana"], [])
    with pytest.raises(ConfigError, match="not sealed to this key"):
        sealing.open_secret(team.as_(BOB), "one")


def test_what_a_leaver_could_read_is_not_known_where_the_file_cannot_be_trusted(team: Team) -> None:
    """Nothing and unknown are two things; the key is taken out all the same."""
    team.put("one", "1")
    team.add(BOB)
    sealing.reseal(team.ana())
    bobs = next(key for key in team.ana().trust.command if key.name == "bob")
    assert sealing.readable_by(team.ana(), replace(bobs, seal=None)) == []
    team.fleet.secrets_toml.write_bytes(team.fleet.secrets_toml.read_bytes() + b"# more\n")
    assert sealing.readable_by(team.ana(), bobs) is None
    done = asyncio.run(
        flows_keys.revoke(team.ana(), "bob", None, plan=False, approve=lambda _: True, report=lambda _: None)
    )
    assert any("secrets.toml cannot be verified, so see yourself" in note for note in done.notes), done.notes
    assert [key.name for key in team.ana().trust.command] == ["ana"]


def test_what_is_put_away_takes_the_place_of_nothing(team: Team) -> None:
    """web-1 and web_1 have one name as secrets; and a second value of one label is another one."""
    team.put("web_1_cache_password", "somebody's")

    def made(server: str, value: str) -> CommandResult:
        reply = Reply("", "done", secrets={"cache password": value})
        return CommandResult(servers=(ServerResult(server, reply),))

    for server, value in (("web-1", "a"), ("web_1", "b"), ("web-1", "c")):
        done = sealing.put_away(team.ana(), made(server, value))
        assert done.servers[0].reply and done.servers[0].reply.secrets == {}
    for name, value in (("", "somebody's"), ("_2", "a"), ("_3", "b"), ("_4", "c")):
        assert sealing.open_secret(team.ana(), f"web_1_cache_password{name}") == value
    assert done.notes == ("sealed into secrets.toml: sf secret show web_1_cache_password_4",)


def test_resealing_again_writes_nothing(team: Team) -> None:
    assert sealing.reseal(team.ana()) == []
    assert not team.fleet.secrets_toml.exists()
    team.put("one", "1")
    team.add(BOB)
    sealing.reseal(team.ana())
    before = [path.read_bytes() for path in (team.fleet.secrets_toml, secrets.signature_path(team.fleet))]
    assert sealing.reseal(team.ana()) == []
    assert before == [path.read_bytes() for path in (team.fleet.secrets_toml, secrets.signature_path(team.fleet))]


def test_what_does_not_open_here_is_told_and_left(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1")
    team.put("two", "2")
    before = content(team)
    broken = {**before.boxes, "two": dict.fromkeys(before.boxes["two"], b"x")}
    forge(team, replace(before, version=9, boxes=broken), BOB.command)
    team.add(CI)
    (done, left) = sealing.reseal(team.ana())
    assert done.endswith(": one") and "do not open here: two;" in left
    assert (team.holders("one"), team.holders("two")) == (["ana", "bob", "ci"], ["ana", "bob"])
    assert listed(team.ana()) == {"one": "ok", "two": "out of date"}


def test_a_box_too_many_is_taken_out_without_being_able_to_open(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1")
    team.drop(BOB.command.public_key)
    workspace = team.ana()
    (workspace.private / "seal").unlink()
    sealing.reseal(workspace)
    assert team.holders("one") == ["ana"]


def test_while_a_key_is_rotated_both_open(team: Team) -> None:
    team.add(BOB)
    following = Holder("bob")
    team.add(following)
    team.put("one", "1")
    assert team.holders("one") == ["ana", "bob", "bob"]
    assert [sealing.open_secret(team.as_(each), "one") for each in (BOB, following)] == ["1", "1"]
    team.drop(BOB.command.public_key)
    sealing.reseal(team.as_(following))
    assert team.holders("one") == ["ana", "bob"]
    assert sealing.open_secret(team.as_(following), "one") == "1"


def test_a_new_command_key_with_the_same_seal_key_needs_one_box(team: Team) -> None:
    team.add(BOB)
    following = Holder("bob")
    following.seal = BOB.seal
    team.add(following)
    team.put("one", "1")
    assert team.holders("one") == ["ana", "bob"]


def test_what_a_leaver_signed_stays_good_where_it_was_seen(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1", team.as_(BOB))
    sealing.remember(team.ana())
    team.drop(BOB.command.public_key)
    assert not vault.read(team.ana()).signed
    sealing.reseal(team.ana())
    assert vault.read(team.ana()).signed
    assert vault.read(team.elsewhere()).boxes.keys() == {"one"}


def test_a_signature_by_a_key_that_was_replaced_is_renewed(team: Team) -> None:
    team.add(BOB)
    following = Holder("bob")
    following.seal = BOB.seal
    team.put("one", "1", team.as_(BOB))
    sealing.remember(team.ana())
    team.add(following)
    team.drop(BOB.command.public_key)
    assert listed(team.ana()) == {"one": "ok"}
    with pytest.raises(TrustError, match="not signed"):
        vault.read(team.elsewhere())
    sealing.reseal(team.ana())
    assert vault.read(team.elsewhere()).signed


def test_a_change_that_waited_for_the_lock_seals_to_the_newest_trust(team: Team) -> None:
    team.add(BOB)
    early = team.ana()
    assert early.trust.version == 2
    team.drop(BOB.command.public_key)
    sealing.store(early, {"one": "1"})
    assert team.holders("one") == ["ana"]


# --- merge rights -----------------------------------------------------------------------------------------------------


def theirs(team: Team, value: str = "https://evil.example/") -> secrets.Content:
    """A value of the attacker's own, well sealed to everyone: that needs public keys only."""
    before = content(team)
    return replace(before, version=before.version + 1, boxes=dict(swapped(team, before, value)))


def swapped(team: Team, before: secrets.Content, value: str) -> dict[str, dict[str, bytes]]:
    return {name: sealing.sealed(team.ana().trust, name, value) for name in before.boxes}


def everything_refuses(team: Team, match: str) -> None:
    sealed = team.fleet.secrets_toml.read_bytes()
    for act in (
        lambda: sealing.open_secret(team.ana(), "one"),
        lambda: listed(team.ana()),
        lambda: team.put("two", "2"),
        lambda: sealing.check_seal(team.ana()),
        lambda: asyncio.run(flow.remove_secret(team.ana(), "one", plan=False, approve=lambda _: True)),
    ):
        with pytest.raises(TrustError, match=match):
            act()
    assert team.fleet.secrets_toml.read_bytes() == sealed


def test_a_swapped_value_is_refused_unsigned_and_under_the_old_signature(team: Team) -> None:
    team.put("one", "1")
    signature = secrets.signature_path(team.fleet).read_text()
    forge(team, theirs(team))
    everything_refuses(team, "not signed by a key that may")
    sealing.remember(team.ana())
    everything_refuses(team, "not signed by a key that may")
    secrets.signature_path(team.fleet).write_text(signature)
    everything_refuses(team, "not signed by a key that may")
    secrets.signature_path(team.fleet).unlink()
    everything_refuses(team, "not signed by a key that may")
    with pytest.raises(TrustError):
        sealing.reseal(team.ana())


def test_a_value_signed_by_a_deploy_key_or_a_stranger_is_refused(team: Team) -> None:
    team.add(CI, "one")
    team.put("one", "1")
    forge(team, theirs(team), CI.command, BOB.command)
    everything_refuses(team, "not signed by a key that may")


def test_a_signature_for_something_else_is_no_signature(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1")
    forge(team, theirs(team))
    data = team.fleet.secrets_toml.read_bytes()
    blob = sshsig.sign(BOB.command, sshsig.COMMAND, data)
    secrets.signature_path(team.fleet).write_text(sshsig.armor(blob))
    everything_refuses(team, "not signed by a key that may")


def test_an_older_file_is_refused_where_a_newer_one_was_seen(team: Team) -> None:
    team.put("one", "old")
    older = [path.read_bytes() for path in (team.fleet.secrets_toml, secrets.signature_path(team.fleet))]
    team.put("one", "new")
    team.fleet.secrets_toml.write_bytes(older[0])
    secrets.signature_path(team.fleet).write_bytes(older[1])
    everything_refuses(team, "went back to version 1; version 2 was seen here")


def test_a_file_that_is_gone_is_noticed(team: Team) -> None:
    team.put("one", "1")
    team.fleet.secrets_toml.unlink()
    with pytest.raises(TrustError, match="is gone; version 1 was seen here"):
        listed(team.ana())
    with pytest.raises(TrustError, match="is gone"):
        team.put("one", "1")


def test_two_files_of_one_version_are_a_fork_and_the_merged_one_counts(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1")
    base = [path.read_bytes() for path in (team.fleet.secrets_toml, secrets.signature_path(team.fleet))]
    vault.read(team.as_(BOB))
    team.put("mine", "a")
    team.fleet.secrets_toml.write_bytes(base[0])
    secrets.signature_path(team.fleet).write_bytes(base[1])
    team.put("yours", "b", team.as_(BOB))  # bob's clone, before he pulled
    assert sealing.open_secret(team.ana(), "yours") == "b"
    team.put("mine", "a")
    assert content(team).version == 3


def test_another_fleets_file_is_refused(team: Team) -> None:
    team.add(BOB)
    team.put("one", "1")
    forge(team, replace(content(team), fleet="0" * 32, version=9), BOB.command)
    everything_refuses(team, "another fleet's")


@pytest.mark.parametrize("move", ["name", "operators", "planted"])
def test_boxes_that_someone_moved_or_planted_do_not_open(team: Team, move: str) -> None:
    """Even behind a good signature: an operator's mistake, or a key that was stolen."""
    team.add(BOB)
    team.put("one", "1")
    team.put("two", "2")
    before = content(team)
    one = dict(before.boxes["one"])
    if move == "name":
        boxes = {**before.boxes, "two": one}
    elif move == "operators":
        first, second = sorted(one)
        boxes = {**before.boxes, "two": {first: one[second], second: one[first]}}
    else:
        stranger = Holder("eve")
        box = secrets.box_name("eve", stranger.seal.public)
        boxes = {**before.boxes, "one": {**one, box: seal.seal(stranger.seal.public, b"one\x001")}}
    forge(team, replace(before, version=9, boxes=boxes), BOB.command)
    if move != "planted":
        with pytest.raises(SfError, match=r"was sealed as 'one'|does not open with this key"):
            sealing.open_secret(team.ana(), "two")
        return
    assert listed(team.ana()) == {"one": "out of date", "two": "ok"}
    sealing.reseal(team.ana())
    assert team.holders("one") == ["ana", "bob"]


# --- one file, many writers, and crashes ------------------------------------------------------------------------------


def _put_many(folder: FleetFolder, prefix: str) -> None:
    workspace = Workspace(folder, Settings())
    for number in range(5):
        sealing.store(workspace, {f"{prefix}{number}": prefix})


def test_two_at_once_lose_nothing(team: Team) -> None:
    team.ana()
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=_put_many, args=(team.fleet, prefix)) for prefix in "ab"]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert [each.exitcode for each in running] == [0, 0]
    assert listed(team.ana()).keys() == {f"{prefix}{number}" for prefix in "ab" for number in range(5)}
    assert content(team).version == 10


@pytest.mark.parametrize("lasts", [0, 1, 2, 3])
def test_stopped_after_any_file_the_old_value_or_the_new_one_stands(
    team: Team, monkeypatch: pytest.MonkeyPatch, lasts: int
) -> None:
    """The disk is full after so many renames."""
    team.put("one", "old")
    workspace = team.ana()
    _ = workspace.trust
    true_replace, done = Path.replace, [0]

    def replace_some(self: Path, target: Path) -> Path:
        done[0] += 1
        if done[0] > lasts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true_replace(self, target)

    with monkeypatch.context() as full:
        full.setattr(Path, "replace", replace_some)
        with pytest.raises(ConfigError, match="No space left"):
            sealing.store(workspace, {"one": "new"})
    assert sealing.open_secret(team.ana(), "one") == ("new" if lasts >= 2 else "old")
    assert vault.read(team.elsewhere()).signed
    assert not [name for name in os.listdir(team.fleet.path) if re.match(r"\.secrets", name)]
    sealing.store(team.ana(), {"one": "newer"})
    assert secrets.signature_path(team.fleet).read_text().count("BEGIN") == 1


def test_a_record_that_is_damaged_is_not_guessed(team: Team) -> None:
    team.put("one", "1")
    (team.ana().private / "secrets.seen.json").write_text("{}")
    with pytest.raises(TrustError, match="is damaged"):
        vault.read(team.ana())


# --- the commands' flows ----------------------------------------------------------------------------------------------


def refer(team: Team, name: str) -> None:
    with team.fleet.fleet_toml.open("a") as file:
        file.write(f'\n[notify.channels.ops]\nprovider = "slack"\nurl = {{ secret = "{name}" }}\n')


def test_new_and_replaced_and_where_it_is_used(team: Team) -> None:
    refer(team, "slack_ops")
    assert listed(team.ana()) == {"slack_ops": "missing"}
    for verb in ("create", "update"):
        done = team.put("slack_ops", "v")
        (server,) = done.servers
        assert server.reply and [change.verb for change in server.reply.changes] == [verb]
        assert done.data["references"] == [{"secret": "slack_ops", "place": "notify.channels.ops.url"}]
        assert "sf apply" in done.notes[0]
    assert listed(team.ana()) == {"slack_ops": "ok"}


def test_nothing_is_asked_for_before_it_is_sure_that_it_can_be_kept(team: Team) -> None:
    def never() -> str:
        raise AssertionError("asked")

    with pytest.raises(UsageError):
        asyncio.run(flow.set_secret(team.ana(), "No", never, plan=False))
    with pytest.raises(ConfigError, match="no secret 'gone'"):
        asyncio.run(flow.set_secret(team.ana(), "gone", never, plan=False, exists=True))
    asyncio.run(flow.set_secret(team.ana(), "one", never, plan=True))
    assert not team.fleet.secrets_toml.exists()


def test_a_secret_in_use_is_not_removed(team: Team) -> None:
    team.put("slack_ops", "v")
    refer(team, "slack_ops")
    with pytest.raises(ConfigError, match=r"notify\.channels\.ops\.url"):
        asyncio.run(flow.remove_secret(team.ana(), "slack_ops", plan=False, approve=lambda _: True))
    team.put("other", "v")
    asyncio.run(flow.remove_secret(team.ana(), "other", plan=False, approve=lambda _: True))
    assert listed(team.ana()) == {"slack_ops": "ok"}


def test_an_import_is_all_or_nothing(team: Team) -> None:
    def run(values: dict[str, str], replace: bool = False, approve: Callable[..., bool] = lambda _: True) -> None:
        asyncio.run(flow.import_secrets(team.ana(), values, replace=replace, plan=False, approve=approve))

    team.put("one", "1")
    for values in ({"two": "2", "one": "x"}, {"two": "2", "1bad": "x"}, {"two": "2", "three": ""}, {}):
        with pytest.raises(UsageError):
            run(values)
    with pytest.raises(SfError, match="nothing was done"):
        run({"two": "2"}, approve=lambda _: False)
    assert listed(team.ana()).keys() == {"one"}

    def meanwhile(_: CommandResult) -> bool:
        sealing.store(team.ana(), {"two": "theirs"})
        return True

    with pytest.raises(PlanChanged):
        run({"one": "x", "two": "2"}, replace=True, approve=meanwhile)
    run({"one": "x", "three": "3"}, replace=True)
    assert [sealing.open_secret(team.ana(), name) for name in ("one", "two", "three")] == ["x", "theirs", "3"]


def test_references_are_resolved_or_all_that_is_missing_is_named(team: Team) -> None:
    refer(team, "slack_ops")
    with team.fleet.fleet_toml.open("a") as file:
        file.write('\n[dns.providers.cf]\nprovider = "cloudflare"\ntoken = { secret = "cf_token" }\n')
    with pytest.raises(ConfigError) as missing:
        sealing.resolve(team.ana(), team.ana().fleet)
    assert "notify.channels.ops.url" in missing.value.message and "dns.providers.cf.token" in missing.value.message
    team.put("slack_ops", "https://hooks.example/")
    workspace = team.ana()
    assert sealing.resolve(workspace, workspace.fleet.notify) == {"slack_ops": "https://hooks.example/"}
    assert sealing.resolve(workspace, workspace.fleet.servers) == {}
    forge(team, theirs(team))
    with pytest.raises(TrustError, match="not signed"):
        sealing.resolve(workspace, workspace.fleet.notify)


def test_seal_is_refused_where_the_value_could_not_be_opened_again(team: Team) -> None:
    sealing.check_seal(team.ana())
    stranger = team.as_(BOB)
    with pytest.raises(TrustError):
        sealing.check_seal(stranger)
    workspace = team.ana()
    (workspace.private / "seal").unlink()
    seal.save_seal_key(workspace.private / "seal", seal.new_seal_key())
    with pytest.raises(TrustError, match="does not name the seal key of this machine"):
        sealing.check_seal(team.ana())


def test_no_value_is_in_the_files(team: Team) -> None:
    team.put("one", "correct horse battery")
    for path in (path for path in team.fleet.path.parent.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert b"horse" not in data
        assert base64.b64encode(b"correct horse battery") not in data
        assert hashlib.sha256(b"correct horse battery").hexdigest().encode() not in data
