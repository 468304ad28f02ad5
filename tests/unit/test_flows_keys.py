"""What a command line may ask for a key, and what of it is refused before anybody signs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.errors import SfError, TrustError, UsageError
from serverflow_cli.flows import keys, trust
from serverflow_cli.flows.deploy import DeployRequest, deploy
from serverflow_cli.flows.init import init
from serverflow_cli.flows.keys import Rights
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult

SERVER = '\n[servers.web1]\nhost = "192.0.2.1"\nroles = ["app"]\n'


@pytest.fixture
def ana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A new fleet with a server that is not enrolled."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = FleetFolder(tmp_path / "fleet")
    asyncio.run(init(str(folder.path), key=None, name="ana", settings=Settings(), ask=None))
    folder.fleet_toml.write_text(folder.fleet_toml.read_text() + SERVER)
    return Workspace(folder, Settings())


def agreed(_: object) -> bool:
    return True


def deployed(workspace: Workspace, rights: Rights, *, plan: bool = True) -> CommandResult:
    request = DeployRequest("ci", rights)
    return asyncio.run(deploy(workspace, request, plan=plan, approve=agreed, report=lambda _: None))


def granted(workspace: Workspace, rights: Rights) -> CommandResult:
    return asyncio.run(keys.grant(workspace, "ci", rights, plan=True, approve=agreed, report=lambda _: None))


def refused(workspace: Workspace, rights: Rights) -> SfError:
    """The same by `sf key deploy` and, once there is such a key, by `sf key grant`; nothing is written."""
    before = workspace.folder.fleet_toml.read_text()
    with pytest.raises(UsageError) as first:
        deployed(workspace, rights, plan=False)
    assert workspace.folder.fleet_toml.read_text() == before
    assert not list(workspace.private.glob("deploy-*"))
    deployed(workspace, Rights(("system.info",), "all"), plan=False)
    with pytest.raises(UsageError) as second:
        granted(workspace, rights)
    assert (first.value.message, first.value.hint) == (second.value.message, second.value.hint)
    return first.value


def test_an_unknown_server_is_the_command_lines_fault(ana: Workspace) -> None:
    error = refused(ana, Rights(("app.show",), "web9"))
    assert error.message == "--on: no server is called web9"
    assert error.hint == "did you mean web1?"


def test_a_condition_that_no_allowed_action_can_meet(ana: Workspace) -> None:
    error = refused(ana, Rights(("service.restart", "service.stop"), "all", {"nosuch": "x", "unit": "cron"}))
    assert error.message == "--where nosuch: service.restart, service.stop have no such parameter that a grant compares"
    assert error.hint == "it can be: unit"


def test_a_list_equals_nothing(ana: Workspace) -> None:
    """As servers see it: see `granted` in authorise.py."""
    error = refused(ana, Rights(("package.install",), "all", {"names": "htop"}))
    assert error.message.startswith("--where names: package.install has no such parameter")


def test_conditions_that_no_allowed_action_meets_together(ana: Workspace) -> None:
    error = refused(ana, Rights(("service.restart", "app.show"), "all", {"unit": "cron", "name": "shop"}))
    assert error.message == "--where: none of app.show, service.restart has all of name, unit"


def test_actions_that_a_condition_keeps_from_running_are_told(ana: Workspace) -> None:
    rights = Rights(("service.restart", "system.disk", "system.info"), "all", {"unit": "cron"})
    note = "never allowed by this: system.disk, system.info, which have no unit to compare"
    for plan in (True, False):
        assert note in deployed(ana, rights, plan=plan).notes
    assert note in granted(ana, rights).notes
    assert granted(ana, Rights(("service.restart",), "all", {"unit": "cron"})).notes == ()


CHECKS = '[checks.web]\non = "all"\nexpect = ["unit ssh active"]\n'


def test_changes_where_there_are_checks_need_them_too(ana: Workspace) -> None:
    toml = ana.folder.fleet_toml
    toml.write_text(toml.read_text() + CHECKS)
    note = (
        "[checks] are for web1, and ci may not try them, so safe changes are refused there: "
        "sf key grant ci --allow safe.check --on web1"
    )
    assert note in deployed(ana, Rights(("user.create",), "all")).notes
    # No condition can be met by it.
    rights = Rights(("user.create", "safe.check"), "all", {"name": "bo"})
    assert note in deployed(ana, rights).notes
    for fine in (("user.create", "safe.check"), ("service.restart", "system.info")):
        assert deployed(ana, Rights(fine, "all")).notes == ()
    deployed(ana, Rights(("system.info",), "all"), plan=False)
    assert note in granted(ana, Rights(("user.create",), "all")).notes
    toml.write_text(toml.read_text().replace(CHECKS, ""))
    ana.refresh()
    assert granted(ana, Rights(("user.create",), "all")).notes == ()


def test_many_actions_are_told_in_a_few_words(ana: Workspace) -> None:
    error = refused(ana, Rights(("*",), "all", {"nosuch": "x"}))
    assert len(error.message) < 250
    assert " more have no such parameter" in error.message


def test_one_key_is_one_key(ana: Workspace) -> None:
    for role, hint in (("root", "sf key add --root"), ("release", "sf key add --release")):
        with pytest.raises(UsageError) as caught:
            asyncio.run(trust.threshold(ana, 2, role, plan=True, approve=agreed, report=lambda _: None))
        assert caught.value.message == f"there is 1 {role} key, so 2 cannot sign"
        assert caught.value.hint == hint


def test_a_role_keeps_as_many_keys_as_have_to_sign(ana: Workspace) -> None:
    with pytest.raises(TrustError, match="no root key would be left, and 1 has to sign"):
        asyncio.run(keys.revoke(ana, "ana", "root", plan=True, approve=agreed, report=lambda _: None))
