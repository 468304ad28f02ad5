"""`sf config`: what is shown of files, and what becomes of a text that somebody edits."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serverflow_cli.errors import RolledBack, SfError
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

from .test_cli_run import CHANGED, OP, Ended, FakeFlows, sf, watched

PATH = "/etc/ssh/sshd_config.d/50-serverflow-local.conf"


def facts(present: bool = True, managed: bool = True, changed: bool = False, **more: str) -> dict[str, Any]:
    about = {"kind": "sshd", "path": PATH}
    return {**about, "present": present, "managed": managed, "changed_by_hand": changed, **more}


def shown(**texts: str) -> FakeFlows:
    """Flows whose servers have these files."""
    replies = {name: Reply("", "done", data=facts(text=text, help="x")) for name, text in texts.items()}
    return FakeFlows(CommandResult("acme", "", tuple(ServerResult(name, reply) for name, reply in replies.items())))


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "state"),
    [
        (facts(present=False, managed=False), "absent"),
        (facts(), "as written"),
        (facts(changed=True), "changed by hand"),
        (facts(present=False, changed=True), "removed by hand"),
        (facts(managed=False), "not ours"),
    ],
)
def test_how_a_file_is_stands_in_one_column(about: dict[str, Any], state: str) -> None:
    result = CommandResult("acme", "", (ServerResult("web1", Reply("", "done", data={"files": [about]})),))
    head, row = sf("config list", FakeFlows(result)).out.splitlines()
    assert head.split() == ["KIND", "STATE", "PATH"]
    assert row.removeprefix("sshd").removesuffix(PATH).strip() == state
    assert sf("config list --json", FakeFlows(result)).document["servers"][0]["data"] == {"files": [about]}


def test_a_file_is_shown_as_it_is() -> None:
    ended = sf("config show sshd --on web1", shown(web1="Port 22\n\tLogLevel \x1b[31mINFO\n\n"))
    assert ended.out == "Port 22\n\tLogLevel INFO\n\n"
    assert ended.err == f"sf: note: web1: {PATH}: as written\n"
    assert sf("config show sshd --on web1", shown(web1="")).out == ""


def test_the_same_file_on_several_servers_is_shown_once() -> None:
    assert sf("config show sshd --on all", shown(web1="Port 22\n", web2="Port 22\n")).out == "Port 22\n"
    flows = shown(web1="Port 22\n", web2="Port 23\n", db1="Port 22\n")
    assert sf("config show sshd --on all", flows).out == "==> web1, db1 <==\nPort 22\n==> web2 <==\nPort 23\n"


def test_a_file_as_json_is_what_the_server_said() -> None:
    data = sf("config show sshd --on web1 --json", shown(web1="Port 22\n")).document["servers"][0]["data"]
    assert data == facts(text="Port 22\n", help="x")


def test_a_key_is_given_once() -> None:
    flows = FakeFlows(CHANGED)
    ended = sf("config set sshd Port=22 Port=2222 --on web1 --yes", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert "Port=22,2222" in ended.err
    assert sf("config set sshd MaxSessions=3 maxsessions=4 --on web1 --yes", flows).code == 2


def test_an_empty_file_is_a_mistake(tmp_path: Path) -> None:
    flows = FakeFlows(CHANGED)
    (tmp_path / "empty").write_text("\n")
    ended = sf(f"config apply sshd {tmp_path / 'empty'} --on web1 --yes", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert "sf config remove" in ended.err


# --- what is edited --------------------------------------------------------------------------------------------------


class Editing(FakeFlows):
    """The flow of `sf config edit` as far as it concerns the editor. `problems` are what is wrong with each version."""

    def __init__(self, folder: Path, result: CommandResult | Exception, *problems: str) -> None:
        super().__init__(result)
        self.folder = folder
        self.problems = problems
        self.texts: list[str] = []

    @asynccontextmanager
    async def workspace(self, ask: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(state=self.folder)

    async def config_edit(self, _: Any, __: str, ___: str, revise: Callable[[str, str], str], ____: Any) -> Any:
        text = ""
        for problem in ("", *self.problems):
            text = revise(text, problem)
            self.texts.append(text)
        if text == "":
            return CommandResult("acme", notes=("nothing changed",))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    @property
    def kept(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An editor that does this to the file at `path`; nobody's own is started."""
    monkeypatch.delenv("VISUAL", raising=False)

    def does(script: str) -> None:
        program = tmp_path / "editor.py"
        program.write_text(f"import os, pathlib, signal, sys\npath = pathlib.Path(sys.argv[1])\n{script}\n")
        monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(program)]))

    return does


APPENDS = "path.write_text(path.read_text() + 'Port 22\\n'); os.chmod(path, 0o644)"
LINE = "config edit sshd --on web1"
FAILED = CommandResult("acme", OP, (ServerResult("web1", error=RolledBack("it has gone back")),))


def test_a_text_that_got_where_it_was_to_be_is_not_kept(tmp_path: Path, editor: Callable[[str], None]) -> None:
    editor(APPENDS)
    flows = Editing(tmp_path / "state", CHANGED)
    assert sf(f"{LINE} --yes", flows).code == 0
    assert (flows.texts, flows.kept) == (["Port 22\n"], [])
    assert list((tmp_path / "state/edits").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "result", "code"),
    [
        ("--yes", FAILED, 12),
        ("--yes", SfError("nothing was done", code="declined"), 1),
        ("--yes", KeyboardInterrupt(), 130),
        ("--plan", CHANGED, 0),
    ],
)
def test_a_text_that_did_not_get_there_is_kept(
    tmp_path: Path, editor: Callable[[str], None], options: str, result: Any, code: int
) -> None:
    editor(APPENDS)
    flows = Editing(tmp_path / "state", result)
    if isinstance(result, KeyboardInterrupt):

        async def pressed(*arguments: Any) -> None:
            arguments[3]("", "")
            raise result

        flows.config_edit = pressed  # type: ignore[method-assign, assignment]
    ended = sf(f"{LINE} {options}", flows)
    (path,) = flows.kept
    assert ended.code == code
    assert f"sf: note: your text is in {path}\n" in ended.err
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("Port 22\n", 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("script", "kept"), [("sys.exit(3)", 0), (f"{APPENDS}; sys.exit(3)", 1)])
def test_an_editor_that_fails(tmp_path: Path, editor: Callable[[str], None], script: str, kept: int) -> None:
    editor(script)
    flows = Editing(tmp_path / "state", CHANGED)
    ended = sf(f"{LINE} --yes", flows)
    assert (ended.code, len(flows.kept)) == (1, kept)
    assert "exit code 3" in ended.err
    assert ("your text is in" in ended.err) == bool(kept)


@pytest.mark.parametrize("ends", ["os.kill(os.getpid(), signal.SIGINT)", "sys.exit(130)"])
def test_ctrl_c_in_the_editor_is_130(tmp_path: Path, editor: Callable[[str], None], ends: str) -> None:
    editor(f"signal.signal(signal.SIGINT, signal.SIG_DFL)\n{APPENDS}\n{ends}")
    flows = Editing(tmp_path / "state", CHANGED)
    ended = sf(f"{LINE} --yes", flows)
    assert (ended.code, len(flows.kept)) == (130, 1)


def test_ctrl_c_that_the_editor_takes_is_its_own(tmp_path: Path, editor: Callable[[str], None]) -> None:
    editor(f"os.kill(os.getppid(), signal.SIGINT)\n{APPENDS}")
    flows = Editing(tmp_path / "state", CHANGED)
    assert sf(f"{LINE} --yes", flows).code == 0
    assert flows.texts == ["Port 22\n"]


def test_nothing_changed_leaves_nothing(tmp_path: Path, editor: Callable[[str], None]) -> None:
    editor("")
    flows = Editing(tmp_path / "state", CHANGED)
    ended = sf(f"{LINE} --yes", flows)
    assert (ended.code, flows.kept) == (0, [])
    assert ended.err == "sf: note: fleet acme\nsf: note: nothing changed\n"


def test_a_problem_is_told_once(tmp_path: Path, editor: Callable[[str], None]) -> None:
    editor(APPENDS)
    alone = sf(f"{LINE} --yes", Editing(tmp_path / "1", CHANGED, "sshd: line 1: no"))
    assert (alone.code, alone.err.count("line 1: no")) == (2, 1)
    asked = watched(LINE, Editing(tmp_path / "2", CHANGED, "sshd: line 1: no"), "n\n", colour=False)
    assert (asked.code, asked.err.count("line 1: no")) == (1, 1)
    again = Editing(tmp_path / "3", CHANGED, "sshd: line 1: no")
    assert watched(LINE, again, "y\n", colour=False).code == 0
    assert again.texts == ["Port 22\n", "Port 22\nPort 22\n"]


def test_without_a_terminal_and_an_editor_nobody_can_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    ended: Ended = sf(f"{LINE} --yes --json", Editing(tmp_path / "state", CHANGED))
    assert (ended.code, ended.document["error"]["code"]) == (2, "no-terminal")


def test_what_the_editor_prints_is_no_result(
    tmp_path: Path, editor: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    editor(f"print('hello', flush=True)\n{APPENDS}")
    assert sf(f"{LINE} --yes --json", Editing(tmp_path / "state", CHANGED)).document["ok"] is True
    assert tuple(capfd.readouterr()) == ("", "hello\n")
