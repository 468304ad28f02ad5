"""`sf` as a process: what it imports, and how it ends when its reader goes away or Ctrl-C is pressed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

SF = [sys.executable, "-m", "serverflow_cli.main"]
ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm"}


def sf(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SF, *arguments], env={**ENVIRON, **options}, capture_output=True, text=True, check=False)


def imported(*arguments: str) -> set[str]:
    """The modules that a run imports."""
    command = [sys.executable, "-X", "importtime", *SF[1:], *arguments]
    done = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=False)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_version_needs_nothing() -> None:
    modules = imported("--version")
    assert not modules & {"typer", "typing", "re", "serverflow_cli.cli", "serverflow_actions"}
    assert sf("--version").stdout.startswith("sf ")


@pytest.mark.parametrize("line", ["--help", "server --help", "service --help"])
def test_looking_around_imports_neither_typer_nor_actions(line: str) -> None:
    assert not {m for m in imported(*line.split()) if m.startswith(("typer", "rich", "serverflow_actions"))}


def test_help_of_a_command_imports_nothing_heavy_and_no_other_area() -> None:
    modules = imported("service", "restart", "--help")
    heavy = {"rich", "asyncssh", "nacl", "tomlkit", "cryptography", "asyncio", "serverflow_cli.cli.server"}
    assert not modules & heavy
    assert not {m for m in modules if m.startswith("serverflow_actions.system")}


def test_completion_imports_neither_typer_nor_actions() -> None:
    modules = imported("__complete", "service", "restart", "--on", "")
    assert not {m for m in modules if m.startswith(("typer", "serverflow_actions", "pydantic"))}


def test_piped_output_has_no_colour_and_no_boxes() -> None:
    done = sf("action", "list")
    assert done.stdout.startswith("ACTION ")
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.isascii()


def test_errors_go_to_stderr_with_their_code(tmp_path: Path) -> None:
    done = sf("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sf: error: ")


def test_a_reader_that_goes_away_is_no_error() -> None:
    for arguments in (["action", "list"], ["--help"], ["action", "list", "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*SF, *arguments], env=ENVIRON, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")


def test_no_color_is_honoured_on_a_terminal() -> None:
    coloured = pexpect.run(" ".join([*SF, "action show service.restart"]), env=ENVIRON)
    plain = pexpect.run(" ".join([*SF, "action show service.restart"]), env={**ENVIRON, "NO_COLOR": "1"})
    assert b"\x1b[" in coloured
    assert b"\x1b[" not in plain


ASKING = """
import asyncio, sys
from serverflow_cli.ui.prompts import Prompts
from serverflow_cli.ui.terminal import Terminal
async def ask():
    Prompts(Terminal(sys.stdin, sys.stdout, sys.stderr)).confirm("Go on?")
try:
    asyncio.run(ask())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_question_at_once() -> None:
    child = pexpect.spawn(sys.executable, ["-c", ASKING], env=ENVIRON, timeout=20, encoding="utf-8")
    child.expect_exact("[y/N] ")
    child.sendintr()
    child.expect_exact("interrupted")
    child.expect(pexpect.EOF)


RUNNING = """
import asyncio, sys
from contextlib import asynccontextmanager
from serverflow_cli.cli.options import take_global_options
from serverflow_cli.cli.session import Session
from serverflow_cli.main import run
from serverflow_cli.ui.terminal import Terminal
class Flows:
    @asynccontextmanager
    async def workspace(self, ask):
        yield None
    async def run_action(self, workspace, action, *_, report, **__):
        report({"t": "op", "server": "web1", "op": "OP", "action": action, "mode": "run"})
        try:
            print("running", flush=True)
            await asyncio.Event().wait()
        except (asyncio.CancelledError, KeyboardInterrupt):
            report({"t": "left", "text": "the file is as it was"})
            raise
options, rest = take_global_options("service restart nginx --on web1 --yes".split())
sys.exit(run(rest, Session(options, Terminal(sys.stdin, sys.stdout, sys.stderr), Flows())))
"""


def running(*before: str) -> subprocess.Popen[str]:
    """A command that has begun something on a server."""
    command = [*before, sys.executable, "-c", RUNNING]
    process = subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_a_signal_ends_it_like_ctrl_c(number: signal.Signals, code: int, said: str) -> None:
    process = running()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.splitlines()) == (
        code,
        [f"sf: error: {said}", "sf: hint: web1 goes on: `sf op follow OP`", "sf: hint: the file is as it was"],
    )


def test_in_the_background_of_a_script_where_ctrl_c_is_ignored() -> None:
    process = running("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "sf: hint: the file is as it was" in err) == (143, True)


def test_what_is_ignored_stays_ignored() -> None:
    process = running("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1].startswith("sf: error: terminated")


def test_a_terminal_that_is_gone_costs_no_exit_code() -> None:
    child = pexpect.spawn(sys.executable, ["-c", RUNNING], env=ENVIRON, timeout=30, encoding="utf-8")
    child.expect_exact("running")
    child.closed = True  # by us: pexpect would send more signals
    child.ptyproc.fileobj.close()
    _, status = os.waitpid(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
