"""`sf cron`: what a line says, and what is shown of jobs and their runs."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from serverflow_cli.errors import ActionFailed
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.ui.terminal import Terminal

from .test_cli_run import CHANGED, Ended, FakeFlows

OP = "01JD0000000000000000000000"
RUN = "01JD0000000000000000000001"
#: 2026-11-22 02:15:00 UTC, in ms.
DUE = 1795313700000
ENDED: dict[str, Any] = {
    "run": RUN, "due": DUE, "started": DUE + 2000, "ended": DUE + 65_000, "outcome": "failed", "exit": 3,
    "signal": None, "cpu_ms": 1234, "peak_bytes": 12 << 20, "attempts": 3, "trigger": "schedule", "by": "", "op": "",
    "message": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def sf(line: list[str], flows: FakeFlows) -> Ended:
    return Ended(line, flows, Terminal(io.StringIO(), io.StringIO(), io.StringIO()))


def answered(*data: dict[str, Any]) -> CommandResult:
    names = ("web1", "web2")
    servers = (ServerResult(name, Reply(OP, "done", data=each)) for name, each in zip(names, data, strict=False))
    return CommandResult("acme", servers=tuple(servers))


# --- what a line says ------------------------------------------------------------------------------------------------


def test_a_command_is_taken_word_by_word_from_behind_the_dashes() -> None:
    flows = FakeFlows(CHANGED)
    line = [
        "cron",
        "add",
        "report",
        "--on",
        "@app",
        "--schedule",
        "15 3 * * *",
        "--app",
        "shop",
        "--retries",
        "2",
        "--yes",
    ]
    assert sf([*line, "--", "bin/report", "--all", "--json", "a b"], flows).code == 0
    ((name, arguments, _),) = flows.calls
    assert (name, arguments[1:3]) == ("cron_add", ("report", "@app"))
    assert arguments[3] == {"schedule": "15 3 * * *", "app": "shop", "retries": 2}
    assert arguments[4] == ["bin/report", "--all", "--json", "a b"]


def test_an_action_with_its_parameters() -> None:
    flows = FakeFlows(CHANGED)
    line = "cron add x --on web1 --schedule @daily --action service.restart unit=nginx --catch-up --disabled --yes"
    sf(line.split(), flows)
    assert flows.calls[0][1][3:5] == (
        {"schedule": "@daily", "action": "service.restart", "catch_up": True, "enabled": False},
        ["unit=nginx"],
    )


def test_an_edit_says_only_what_is_given() -> None:
    flows = FakeFlows(CHANGED)
    sf(["cron", "edit", "x", "--no-catch-up", "--yes"], flows)
    sf(["cron", "edit", "x", "--on", "web2", "--timeout", "5m", "--yes"], flows)
    sf(["cron", "disable", "x", "--yes"], flows)
    sf(["cron", "enable", "x", "--yes"], flows)
    assert [(name, arguments[2], arguments[3]) for name, arguments, _ in flows.calls] == [
        ("cron_edit", {"catch_up": False}, []),
        ("cron_edit", {"timeout": "5m", "on": "web2"}, []),
        ("cron_edit", {"enabled": False}, []),
        ("cron_edit", {"enabled": None}, []),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cron add x --on a --schedule @daily --app shop --yes bin/x --all", "--app shop -- bin/report --all"),
        ("cron add x --on a --yes", "--schedule SCHEDULE is missing"),
        ("cron add x --on a --schedule @daily --retries two --yes", "--retries: 'two' is not a number from 0 to 10"),
        ("cron edit x --retries 11 --yes", "--retries: '11' is not a number from 0 to 10"),
        ("cron add x --on a --schedule @daily", "add --yes"),
        ("cron next x --count 0", "--count: '0' is not a number from 1 to 1000"),
        ("cron history x --limit 1001", "--limit: 1001 is more than the 1000 runs that servers keep"),
        ("cron run x", "add --yes"),
        (
            "cron add x --on a --schedule @daily --app shop --yes rsync -v --timeout 30 src dst",
            "--app shop -- rsync …, at the end of the line",
        ),
        ("cron edit x --app shop --yes rsync -v src", "--app shop -- rsync …"),
        ("cron add x --on a --schedule @daily --app shop --yes rsync -- src dst", "--app shop -- rsync …"),
    ],
)
def test_what_the_line_lacks(line: str, told: str) -> None:
    flows = FakeFlows(CHANGED)
    ended = sf(line.split(), flows)
    assert (ended.code, flows.calls) == (2, [])
    assert told in ended.err


def test_a_command_is_changed_only_from_behind_the_dashes() -> None:
    """A line of `sf cron edit` does not say whether the job has a command: fleet.toml does."""

    class Known(FakeFlows):
        @asynccontextmanager
        async def workspace(self, ask: object) -> AsyncIterator[Any]:
            jobs = {"report": SimpleNamespace(app="shop"), "nightly": SimpleNamespace(app=None)}
            yield SimpleNamespace(fleet=SimpleNamespace(cron=jobs))

    flows = Known(CHANGED)
    ended = sf(["cron", "edit", "report", "--yes", "rsync", "-v", "--timeout", "30", "src"], flows)
    assert (ended.code, flows.calls) == (2, [])
    assert "sf: hint: -- rsync …, at the end of the line" in ended.err
    assert sf(["cron", "edit", "report", "--yes", "--", "rsync", "-v", "--timeout", "30", "src"], flows).code == 0
    assert sf(["cron", "edit", "nightly", "unit=redis", "--yes"], flows).code == 0
    words = [arguments[3] for _, arguments, _ in flows.calls]
    assert words == [["rsync", "-v", "--timeout", "30", "src"], ["unit=redis"]]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_the_next_runs_have_a_column_for_each_zone() -> None:
    times = {"Europe/Paris": "Sun 2026-10-25 02:30 +02:00", "UTC": "Sun 2026-10-25 00:30 +00:00"}
    data = {"job": "x", "schedule": "30 2 * * *", "timezone": "Europe/Paris", "runs": [{"at": "…", "times": times}]}
    ended = sf(["cron", "next", "x"], FakeFlows(CommandResult("acme", data=data, notes=("clocks change",))))
    assert ended.out.splitlines()[1] == "Sun 2026-10-25 02:30 +02:00  Sun 2026-10-25 00:30 +00:00"
    assert "clocks change" in ended.err


def test_jobs_of_the_file_and_of_servers_in_one_table() -> None:
    wanted = {
        "name": "report",
        "on": ["web1", "web2"],
        "schedule": "@daily",
        "timezone": "UTC",
        "enabled": True,
        "next": None,
    }
    there = {"schedule": "@daily", "timezone": "UTC", "enabled": True, "next": DUE, "last": ENDED}
    gone = {**there, "enabled": False, "problem": "disabled", "said": "the key ana is gone", "last": None}
    said = answered({"jobs": [{"name": "report", **there}, {"name": "old", **gone}]}, {"jobs": []})
    result = CommandResult("acme", servers=said.servers, data={"jobs": [wanted]})
    _, old, report, missing = sf(["cron", "list"], FakeFlows(result)).out.splitlines()
    assert " enabled " in report
    assert report.split()[:4] == ["web1", "report", "@daily", "UTC"] and "failed, exit code 3" in report
    assert "disabled: the key ana is gone" in old
    assert missing.startswith("web2") and "not applied: sf apply --only cron" in missing


#: As servers describe a job.
THERE: dict[str, Any] = {
    "name": "report", "schedule": "@daily", "timezone": "UTC", "enabled": True, "disabled_because": "", "app": "shop",
    "command": ["bin/report", "--all"], "action": "", "params": [], "timeout": 1800, "memory": 512 << 20,
    "overlap": "skip", "retries": 2, "retry_delay": 60, "catch_up": True, "late": 300, "problem": "", "said": "",
    "installed": DUE, "installed_by": "ana", "op": OP, "next": DUE, "running": "", "last": ENDED,
    "upcoming": [DUE, DUE + 86_400_000], "runs": [ENDED], "server_timezone": "UTC",
}  # fmt: skip


def test_a_job_of_one_server_is_told_in_full() -> None:
    told = sf(["cron", "show", "report"], FakeFlows(answered(THERE))).out
    for line in (
        "state:      enabled, not in fleet.toml",
        "next:       2026-11-22 02:15:00 +00:00, 2026-11-23 02:15:00 +00:00",
        "does:       shop: bin/report --all",
        "memory:     512.0 MiB",
        "retries:    2, the first after 1m",
        "installed:  2026-11-22 02:15:00 +00:00 by ana",
    ):
        assert line in told.splitlines(), told


def test_a_job_of_several_servers_is_a_table_beside_what_the_file_asks_for() -> None:
    asked = {"name": "report", "on": ["web1", "web2"], "schedule": "@hourly", "timezone": "UTC", "enabled": True}
    said = answered(THERE, {**THERE, "schedule": "@hourly", "running": RUN})
    result = CommandResult("acme", servers=said.servers, data={"job": asked})
    told = sf(["cron", "show", "report"], FakeFlows(result)).out
    assert "enabled, other than in fleet.toml: sf apply --only cron" in told
    assert " running " in told and "in fleet.toml:" in told


def test_a_damaged_job_is_told_as_such() -> None:
    damaged = {"name": "x", "problem": "changed", "said": "it was changed by hand", "last": None, "next": 0}
    assert "changed: it was changed by hand" in sf(["cron", "show", "x"], FakeFlows(answered(damaged))).out
    assert "changed: it was changed by hand" in sf(["cron", "list"], FakeFlows(answered({"jobs": [damaged]}))).out


def test_the_history_says_how_runs_ended_and_what_they_used() -> None:
    running = {"run": "x", "due": 0, "started": DUE + 300_000, "outcome": "running", "ended": 0, "cpu_ms": None}
    late = {**ENDED, "started": DUE + 600_000, "ended": DUE + 601_000, "outcome": "ok", "exit": 0, "attempts": 1}
    result = answered({"runs": [running, late, ENDED]})
    _, first, second, third = sf(["cron", "history", "x"], FakeFlows(result)).out.splitlines()
    assert "running" in first
    assert "(10m late)" in second and "ok" in second
    assert all(
        part in third for part in (RUN, "1m 3s", "failed, exit code 3, 3 attempts", "1.2s", "12.0 MiB", "schedule")
    )
    nothing = sf(["cron", "history", "x"], FakeFlows(answered({"runs": []})))
    assert (nothing.out, "no such runs" in nothing.err) == ("", True)


def test_what_a_server_says_wrongly_hides_nothing() -> None:
    wrong = {"run": 1, "due": "x", "started": [], "ended": True, "outcome": None, "cpu_ms": "y", "attempts": {}}
    ended = sf(["cron", "history", "x"], FakeFlows(answered({"runs": [wrong]}, {"runs": [ENDED]})))
    assert ended.code == 0 and RUN in ended.out
    assert sf(["cron", "list"], FakeFlows(answered({"jobs": "x"}, {"jobs": [{"name": "a", "last": "x"}]}))).code == 0


def test_output_is_shown_as_it_is_and_what_is_missing_of_it_is_told() -> None:
    logs = {"run": RUN, "head": "one\n", "tail": "nine\n", "length": 5000, "omitted": 4990}
    ended = sf(["cron", "logs", "x"], FakeFlows(answered(logs)))
    assert ended.out == "one\n\n… 4.9 KiB left out …\nnine\n"
    assert f"run {RUN}" in ended.err
    empty = sf(["cron", "logs", "x"], FakeFlows(answered({"run": RUN, "head": "", "tail": "", "omitted": 0})))
    assert (empty.out, "it wrote nothing" in empty.err) == ("", True)


def test_a_run_that_failed_shows_its_output_and_how_it_ended() -> None:
    error = ActionFailed("the run ended: failed, exit code 3", server="web1", hint="sf cron logs x")
    data = {"name": "x", **ENDED, "output": {"head": "broken\n", "tail": "", "omitted": 0}}
    result = CommandResult("acme", servers=(ServerResult("web1", Reply(OP, "failed", data=data), error),))
    ended = sf(["cron", "run", "x", "--yes"], FakeFlows(result))
    assert ended.code == 6
    assert ended.out == "broken\nweb1: failed\n"
    assert f"run {RUN}: failed, exit code 3, 3 attempts, took 1m 3s, 1.2s cpu, 12.0 MiB memory" in ended.err
    assert "web1: the run ended: failed, exit code 3" in ended.err


def test_each_line_of_a_crontab_has_a_fate() -> None:
    line = {"server": "web1", "file": "/etc/crontab", "line": 3, "text": "* * * * * x", "job": "", "why": ""}
    lines = [
        {**line, "fate": "import", "job": "x"},
        {**line, "fate": "stays", "why": "it runs as root"},
        {**line, "fate": "is there already", "job": "y"},
    ]
    result = CommandResult("acme", data={"lines": lines}, notes=("in fleet.toml now, disabled: x",))
    ended = sf(["cron", "import", "--on", "web1", "--yes"], FakeFlows(result))
    shown = ("becomes cron.x", "it runs as root", "is cron.y already", "/etc/crontab:3")
    assert [part for part in shown if part not in ended.out] == []
    assert "in fleet.toml now" in ended.err
