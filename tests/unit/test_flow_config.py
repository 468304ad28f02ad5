"""`sf config` on this side: which stanza is meant, single settings, the editor's loop; and the planner's part."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest

from serverflow_actions.config._kinds import KINDS
from serverflow_cli.config.edit import Editor
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.load import parse
from serverflow_cli.errors import ConfigError, SfError, UsageError
from serverflow_cli.flows.config import How, edit, problem_of, remove, set_keys, write
from serverflow_cli.flows.config_lines import limits_logins, lost_ports, with_setting
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.fleet import ConfigKind
from serverflow_cli.model.result import CommandResult
from serverflow_cli.plan.conflicts import PlanError
from serverflow_cli.plan.desired import not_planned, resources

HEAD = """schema = 1
[servers.web1]
host = "10.0.0.1"
roles = ["app"]
[servers.web2]
host = "10.0.0.2"
roles = ["app"]
[servers.db1]
host = "10.0.0.3"
"""
SSHD = '[config.sshd]\non = "@app"\nkind = "sshd"\ncontent = "MaxAuthTries 3\\n"\n'


def approve(_: CommandResult) -> bool:
    raise AssertionError("nobody is asked before a server was")


HOW = How(plan=False, approve=approve, timeout_s=None, lock_wait_s=0, report=lambda _: None)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Workspace]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/1.json").write_text(f'{{"fleet": "{"0" * 32}"}}')

    def with_stanzas(text: str) -> Workspace:
        (tmp_path / "fleet.toml").write_text(HEAD + text)
        return Workspace(FleetFolder(tmp_path), Settings())

    return with_stanzas


# --- the fleet file -------------------------------------------------------------------------------------------------


def test_the_file_knows_the_kinds_that_servers_know() -> None:
    assert get_args(ConfigKind) == tuple(KINDS)


def test_a_stanza_is_a_resource_of_its_kind_on_each_server() -> None:
    fleet = parse(HEAD + SSHD)
    assert [(r.server, r.key, r.action, r.params, r.table) for r in resources(fleet)] == [
        (server, "config.sshd", "config.set", {"kind": "sshd", "content": "MaxAuthTries 3\n"}, "config")
        for server in ("web1", "web2")
    ]
    assert not_planned(fleet) == []


def test_two_stanzas_of_one_kind_on_one_server_are_refused() -> None:
    other = '[config.more]\non = "web2,db1"\nkind = "sshd"\ncontent = ""\n'
    with pytest.raises(PlanError, match=r"web2: config\.sshd and config\.more have the same kind"):
        resources(parse(HEAD + SSHD + other))
    assert len(resources(parse(HEAD + SSHD + other.replace("web2,", "")))) == 3
    assert len(resources(parse(HEAD + SSHD + other.replace('kind = "sshd"', 'kind = "motd"')))) == 4


@pytest.mark.parametrize(
    "stanza", ['kind = "cron"\ncontent = ""', 'kind = "sshd"', 'kind = "motd"\ncontent = "\\u001b"']
)
def test_a_stanza_that_is_none(stanza: str) -> None:
    with pytest.raises(ConfigError):
        parse(f'{HEAD}[config.x]\non = "all"\n{stanza}\n')


def test_text_of_several_lines_stays_readable_in_the_file() -> None:
    editor, content = Editor(HEAD + SSHD), 'MaxAuthTries 3\n# "quoted" \\ """\n\tPort 22\n'
    editor.set_entry("config", "sshd", {"content": content})
    assert 'content = """\nMaxAuthTries 3\n' in editor.text
    assert tomllib.loads(editor.text)["config"]["sshd"] == {"on": "@app", "kind": "sshd", "content": content}


# --- one setting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "before", "key", "value", "after"),
    [
        ("sshd", "", "Port", "22", "Port 22\n"),
        ("sshd", "# Port 1\nport 22\nLogLevel INFO\nPort 23\n", "Port", "24", "# Port 1\nPort 24\nLogLevel INFO\n"),
        ("sshd", "PortX 1", "Port", "22", "PortX 1\nPort 22\n"),
        ("sshd", "Port 22\nLogLevel INFO\n", "port", "22, 2222", "port 22\nport 2222\nLogLevel INFO\n"),
        ("sshd", "", "ListenAddress", "10.0.0.1,::1", "ListenAddress 10.0.0.1\nListenAddress ::1\n"),
        ("sshd", "", "Ciphers", "aes256-ctr,aes128-ctr", "Ciphers aes256-ctr,aes128-ctr\n"),
        ("sysctl", "vm.swappiness=1\n", "vm.swappiness", "10", "vm.swappiness = 10\n"),
        ("sysctl", "vmxswappiness=1\n", "vm.swappiness", "10", "vmxswappiness=1\nvm.swappiness = 10\n"),
        ("journald", "", "Storage", "auto", "[Journal]\nStorage=auto\n"),
        ("journald", "[Journal]\nStorage = none\n", "Storage", "auto", "[Journal]\nStorage=auto\n"),
        ("unattended-upgrades", "", "APT::Periodic::Enable", "1", 'APT::Periodic::Enable "1";\n'),
        (
            "unattended-upgrades",
            'APT::Periodic::Enable\t"0";\n// end\n',
            "APT::Periodic::Enable",
            "1",
            'APT::Periodic::Enable "1";\n// end\n',
        ),
    ],
)
def test_a_setting_takes_the_place_of_the_one_before(kind: str, before: str, key: str, value: str, after: str) -> None:
    assert with_setting(kind, before, key, value) == after
    assert problem_of(kind, after) == "" or "PortX" in before or "vmx" in before


@pytest.mark.parametrize(
    ("kind", "content", "told"),
    [
        ("sshd", "port 22\nPort 2222\n", ""),
        ("sshd", "LogLevel INFO\n# Port 1\n", ""),
        ("motd", "Port 2222\n", ""),
        ("sshd", "Port 2222\n", "web1, web2: keep the old port beside the new one (Port=22,2222), change `port`"),
        ("sshd", "Port 22\n", "db1: keep the old port beside the new one (Port=2200,22)"),
    ],
)
def test_the_port_that_the_fleet_uses_is_not_lost_silently(kind: str, content: str, told: str) -> None:
    said = lost_ports(kind, content, {"web1": 22, "web2": 22, **({"db1": 2200} if "db1" in told else {})})
    assert told in said
    assert bool(told) == bool(said)


@pytest.mark.parametrize("kind", ["sudoers", "limits", "logrotate", "motd"])
def test_other_kinds_have_no_settings(kind: str) -> None:
    with pytest.raises(UsageError, match="no KEY=VALUE"):
        with_setting(kind, "", "a", "b")


# --- before any server is asked -------------------------------------------------------------------------------------


def test_content_that_may_not_stand_there_goes_nowhere(workspace: Callable[[str], Workspace]) -> None:
    fleet = workspace(SSHD)
    before = fleet.folder.fleet_toml.read_text()
    with pytest.raises(UsageError, match="sshd: line 2: Match is not among"):
        asyncio.run(write(fleet, "sshd", "@app", "Port 22\nMatch all\n", HOW))
    with pytest.raises(UsageError, match="sshd: line 1: x is no value that MaxAuthTries"):
        asyncio.run(set_keys(fleet, "sshd", "@app", {"LogLevel": "INFO", "maxauthtries": "x"}, HOW))
    with pytest.raises(UsageError, match="motd: must be text"):
        asyncio.run(write(fleet, "motd", "@app", "\x1b", HOW))
    assert fleet.folder.fleet_toml.read_text() == before


def test_a_part_of_a_stanzas_servers_has_no_file_of_its_own(workspace: Callable[[str], Workspace]) -> None:
    with pytest.raises(UsageError, match=r"config\.sshd is on @app"):
        asyncio.run(write(workspace(SSHD), "sshd", "web1", "", HOW))
    with pytest.raises(UsageError, match=r"config\.sshd is on @app"):
        asyncio.run(remove(workspace(SSHD), "sshd", "all", HOW))


def test_an_editor_that_changes_nothing(workspace: Callable[[str], Workspace]) -> None:
    seen: list[str] = []

    def revise(text: str, problem: str) -> str:
        seen.append(text + problem)
        return text

    done = asyncio.run(edit(workspace(SSHD), "sshd", "web1,web2", revise, HOW))
    assert (done.notes, done.servers) == (("nothing changed",), ())
    assert seen == ["MaxAuthTries 3\n"]


def test_the_editor_opens_again_until_the_content_may_stand_there(workspace: Callable[[str], Workspace]) -> None:
    versions = iter(["Match all\n", "Include x\n", "MaxAuthTries 3\n"])
    seen: list[tuple[str, str]] = []

    def revise(text: str, problem: str) -> str:
        seen.append((text, problem.partition(" is not")[0]))
        return next(versions)

    done = asyncio.run(edit(workspace(SSHD), "sshd", "@app", revise, HOW))
    assert done.notes == ("nothing changed",)
    assert seen == [
        ("MaxAuthTries 3\n", ""),
        ("Match all\n", "sshd: line 1: Match"),
        ("Include x\n", "sshd: line 1: Include"),
    ]


def test_an_editor_that_fails_ends_it(workspace: Callable[[str], Workspace]) -> None:
    def revise(_text: str, _problem: str) -> str:
        raise SfError("the editor failed")

    fleet = workspace(SSHD)
    before = fleet.folder.fleet_toml.read_text()
    with pytest.raises(SfError, match="the editor failed"):
        asyncio.run(edit(fleet, "sshd", "@app", revise, HOW))
    assert fleet.folder.fleet_toml.read_text() == before


@pytest.mark.parametrize("content", ["AllowUsers nobody\n", "# x\n passwordauthentication no\n"])
def test_what_people_may_lose_their_login_by_is_told(content: str) -> None:
    assert "only the login of sf itself is proved" in limits_logins("sshd", content)
    assert limits_logins("motd", content) == limits_logins("sshd", "# AllowUsers nobody\nMaxSessions 3\n") == ""


def test_a_countdown_can_be_ended_with_a_mistake_in_the_file(workspace: Callable[[str], Workspace]) -> None:
    heard: list[Mapping[str, object]] = []
    torn = workspace('[checks.z]\non = "all"\nexpect = ["foo"]\n')
    with pytest.raises(ConfigError):
        torn.select("@app")
    assert torn.select_in_need("@app", heard.append) == ["web1", "web2"]
    assert "has mistakes" in str(heard[0]["text"])
    sound = workspace(SSHD)
    assert sound.select_in_need("db1", heard.append) == ["db1"] and len(heard) == 1
