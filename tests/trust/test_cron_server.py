"""Jobs on the server's side (remote/cron*.py): when one is due, what is remembered of its runs, who may have it run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import cronfire
import cronjobs
import cronlog
import cronrun
import cronsandbox
import cronturn
import cronunit
import cronvouch
import cronwatch
import cronwrite
import layout
import operation
import store
import updates
import written
from cronwatch import Look
from messages import Denied
from serverflow_actions import registry
from serverflow_actions.kit.cronjob import Job

from .conftest import DAY, NOW, Fleet

RUN = "01J0000000000000000000000A"
AT = NOW // 1000
HOUR = 3600


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The server's folders somewhere else; returns what people are told: kind and state."""
    folders = "CRON CRONTAB CRON_STATE CRON_RUN SERVER_ID WRITTEN LOCKS APPS SAFE KEPT RUN BOOT"
    for name in folders.split():
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    (tmp_path / "CRON").mkdir()
    found: list[tuple[str, str]] = []
    monkeypatch.setattr("alerts.emit", lambda kind, key, *_, state="open", **__: found.append((kind, state)))
    monkeypatch.setattr("alerts.open_keys", dict)
    monkeypatch.setattr(cronjobs, "server_zone", lambda: "UTC")
    monkeypatch.setattr(store, "now_ms", lambda: NOW)
    monkeypatch.setattr(cronjobs, "now", lambda: AT)
    monkeypatch.setattr("journal.note", lambda _: None)
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)  # the tests may run as anybody
    return found


def put(**changes: Any) -> Job:
    memory = 0 if changes.get("action") else 64 << 20
    job = Job(
        **{
            "memory": memory,
            "name": "report",
            "schedule": "*/5 * * * *",
            "app": "shop",
            "command": ("bin/report",),
            **changes,
        }
    )
    store.write_file(f"{layout.CRON}/{job.name}.json", job.as_json().encode())
    os.utime(f"{layout.CRON}/{job.name}.json", (AT - DAY, AT - DAY))
    return job


def vouch(job: Job, name: str = "ana", **params: Any) -> None:
    action = "cron.add" if job.action else "cron.command"
    about = {"op_id": RUN, "actor": {"name": name, "key": f"SHA256:{name}"}}
    cronvouch.vouch({"about": about, "action": action, "params": {"name": job.name, **params}})


@pytest.fixture
def trust(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fleet's trust file, where ana may add jobs that restart services."""
    Path(layout.SERVER_ID).write_text(fleet.server_id)
    monkeypatch.setattr("trust_store.current", lambda: fleet.server_trust)
    return fleet.server_trust


def job_file() -> str:
    return f"{layout.CRON}/report.json"


def an_action() -> Job:
    return put(app="", command=(), action="service.restart", params=("unit=nginx.service", "app=shop"))


def line(run: str, kind: str, **more: Any) -> None:
    cronlog.append("report", {"t": kind, "run": run, **more})


# --- when it is due --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "now", "last_due", "due"),
    [
        ("*/5 * * * *", AT, 0, AT),
        ("*/5 * * * *", AT + 299, 0, AT),
        ("*/5 * * * *", AT + 60, AT, None),  # two lines, or one that fires too often
        ("0 8 * * *", AT + 301, 0, None),  # cron came too late: the watch tells
        ("0 8 * * *", AT, AT + HOUR, None),  # set back by an hour: it has run
        ("*/5 * * * *", AT, AT + HOUR, AT),  # what goes by the clock runs again
        ("0 8 * * *", AT, AT + 4 * HOUR, AT),  # set back by more: the clock was wrong
    ],
)
def test_when_a_line_fires(schedule: str, now: int, last_due: int, due: int | None) -> None:
    assert AT % 86400 == 8 * HOUR
    assert cronfire.due_now(Job("report", schedule), now, last_due) == due


def test_two_lines_at_once_start_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    started: list[int] = []
    monkeypatch.setattr(cronfire, "launch", lambda name, due, *_: started.append(due))
    cronfire.fire("report")
    cronfire.fire("report")
    assert started == [AT]


def test_a_full_disk_keeps_no_job_from_running_and_none_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    started: list[int] = []
    monkeypatch.setattr(cronfire, "launch", lambda name, due, *_: started.append(due))
    Path(layout.CRON_STATE).write_text("in the way of every file")
    cronfire.fire("report")
    cronfire.fire("report")
    assert started == [AT]


def test_a_disabled_job_and_one_that_is_gone_do_not_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cronfire, "launch", lambda *_: pytest.fail("it was started"))
    cronfire.fire("gone")
    put(enabled=False)
    cronfire.fire("report")


@pytest.mark.parametrize("name", ["../trust", "a/b", "", ".x"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cronfire.fire(name)


# --- the file of a job -----------------------------------------------------------------------------------------------


def test_a_link_and_a_file_that_others_can_write_are_no_job(tmp_path: Path) -> None:
    put()
    path = Path(f"{layout.CRON}/report.json")
    path.chmod(0o666)
    assert (cronjobs.read("report") or pytest.fail("gone")).job is None
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert (cronjobs.read("report") or pytest.fail("gone")).job is None


def test_jobs_are_in_the_order_of_their_names() -> None:
    for name in ("a-b", "ab", "a", "a1"):
        put(name=name)
    assert [found.name for found in cronjobs.everything()] == ["a", "a-b", "a1", "ab"]


# --- vouchers --------------------------------------------------------------------------------------------------------


def standing(trust: Any = None) -> str:
    found = cronjobs.read("report")
    assert found
    return cronvouch.standing(found, trust).problem


def test_a_job_runs_for_whoever_installed_it_and_only_as_it_was_installed(trust: Any) -> None:
    job = an_action()
    assert standing() == "changed"
    vouch(job, action="service.restart", params=list(job.params))
    assert standing() == ""
    put(**{**job._asdict(), "params": ("unit=ssh.service", "app=shop")})
    assert standing() == "changed"


@pytest.mark.parametrize("name", ["ana", "ci", "gone"])
def test_the_grants_of_the_name_that_vouched_count(trust: Any, name: str) -> None:
    """ci may add jobs of the app shop: neither its grant nor a key that is gone covers what another parameter says."""
    job = an_action()
    vouch(job, name, action="service.restart", params=list(job.params))
    assert standing() == {"ana": "", "ci": "disabled", "gone": "disabled"}[name]


def test_what_a_new_trust_file_takes_out_is_disabled_for_good(trust: Any, told: list[tuple[str, str]]) -> None:
    job = an_action()
    vouch(job, action="service.restart", params=list(job.params))
    cronwrite.write(layout.CRONTAB, cronwrite.crontab().encode(), 0o600)
    without = trust._replace(command=tuple(key for key in trust.command if key.name != "ana"))
    assert cronwrite.disable(without) == ["report"]
    assert told == [("cron.disabled", "open")]
    found = cronjobs.read("report")
    assert found and found.job and not found.job.enabled and "not in the trust file" in found.job.disabled_because
    assert standing() == "disabled"  # also by the trust file before, and not as a change by hand
    assert "# disabled: report" in Path(layout.CRONTAB).read_text()
    assert layout.CRONTAB in written.known()
    before = os.lstat(job_file()).st_ino
    assert cronwrite.disable(without) == ["report"]
    assert os.lstat(job_file()).st_ino == before  # told again, not written again


def test_the_first_voucher_that_holds_stays(trust: Any) -> None:
    job = an_action()
    wanted = {"action": "service.restart", "params": list(job.params)}
    vouch(job, "gone", **wanted)
    vouch(job, "ana", **wanted)
    vouch(job, "ci", **wanted)
    found = cronjobs.read("report")
    assert found and cronvouch.standing(found).name == "ana"


# --- the history -----------------------------------------------------------------------------------------------------


def test_a_torn_line_costs_nothing_but_itself() -> None:
    line("A", "start", started=NOW)
    path = Path(f"{layout.CRON_STATE}/jobs/report/history")
    with path.open("ab") as file:
        file.write(b'{"t":"end","run":"A","outc')
    assert [run["outcome"] for run in cronlog.runs("report")] == ["running"]
    line("A", "end", outcome="ok", ended=NOW)
    assert [(run["run"], run["outcome"]) for run in cronlog.runs("report")] == [("A", "ok")]


def test_what_a_full_disk_does_not_take_is_kept_in_memory_and_comes_first_later(tmp_path: Path) -> None:
    state = Path(layout.CRON_STATE)
    state.write_text("in the way")
    os.makedirs(layout.CRON_RUN)
    line("A", "start", started=NOW)
    line("A", "end", outcome="failed")
    assert [run["outcome"] for run in cronlog.runs("report")] == ["failed"]
    state.unlink()
    line("B", "end", outcome="ok")
    assert [run["run"] for run in cronlog.runs("report")] == ["B", "A"]
    assert (state / "jobs/report/history").read_bytes().count(b"\n") == 3


def test_the_history_is_bounded_and_keeps_what_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cronlog, "RUNS", 20)
    monkeypatch.setattr(cronlog, "_LINES", 60)
    line("open", "start", started=NOW)
    for number in range(100):
        line(f"{number:03}", "start", started=NOW)
        line(f"{number:03}", "end", outcome="ok", ended=NOW)
    data = Path(f"{layout.CRON_STATE}/jobs/report/history").read_bytes()
    assert data.count(b"\n") <= 61
    assert data.splitlines()[0] == store.encode({"t": "start", "run": "open", "started": NOW})
    assert cronlog.runs("report")[0]["run"] == "099"


def test_what_is_too_old_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    line("old", "start", started=NOW - 91 * DAY)
    line("old", "end", outcome="ok", ended=NOW - 91 * DAY)
    line("new", "start", started=NOW)
    line("new", "end", outcome="ok", ended=NOW)
    cronlog.tidy("report")
    assert [run["run"] for run in cronlog.runs("report")] == ["new"]


def test_the_first_and_the_last_of_the_output_are_kept() -> None:
    output = cronlog.Output()
    for _ in range(10):
        output.add(b"a" * 9999 + b"\n")
    output.add(b"the end")
    told = output.told()
    assert (len(told["head"]), len(told["tail"])) == (cronlog.KEPT, cronlog.KEPT)
    assert told["omitted"] == told["length"] - 2 * cronlog.KEPT
    assert told["tail"].endswith("\nthe end")


def test_outputs_are_kept_of_the_newest_runs_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cronlog, "OUTPUTS", 3)
    for run in ("F", "E", "D", "C", "B"):  # ids go down: the clock was set back
        line(run, "start", started=NOW)
        cronlog.keep_output("report", run, cronlog.Output())
        line(run, "end", outcome="ok")
    assert sorted(os.listdir(f"{layout.CRON_STATE}/jobs/report/out")) == ["B", "C", "D"]


# --- the watch -------------------------------------------------------------------------------------------------------


def look(
    at: int = AT, boot_ticks: float = 10, ticks: float = 50_000, boot: int = AT - 50_000, marker: str = "a"
) -> Look:
    return Look(at, ticks, boot, boot_ticks, marker)


def alike() -> cronwatch.Past:
    return cronwatch.Past(look(), [])


@pytest.mark.parametrize(
    ("due", "before", "after", "reason"),
    [
        (AT - 600, look(AT - 900, ticks=49_100), look(), "cron did not fire"),
        (AT - 600, look(AT - 900), look(boot_ticks=99_000, ticks=300, boot=AT - 300), "the host was down"),
        (AT - 100, look(AT - 900), look(boot_ticks=99_000, ticks=300, boot=AT - 300), "cron did not fire"),
        (AT - 950, look(AT - 900), look(boot_ticks=99_000, ticks=300, boot=AT - 300), "cron did not fire"),
        # It had run for two minutes, on a machine, and was up again for four.
        (
            AT - 600,
            look(AT - 900, 0, 120),
            look(AT, 0, 240, AT - 240, marker="b"),
            "the host was down",
        ),
        (AT - 600, look(AT - 900, marker=""), look(AT, ticks=50_900), "cron did not fire"),
        (AT - 600, look(AT - 7200, ticks=49_900), look(), "the clock was put forward, or the machine was paused"),
    ],
)
def test_why_a_run_did_not_come(due: int, before: Look, after: Look, reason: str) -> None:
    past = cronwatch.following(after, before, [])
    assert cronwatch.reason(due, past.gaps, 0) == reason


def test_why_is_known_also_by_a_later_look() -> None:
    """Which is the one that tells, of what was due shortly before the host was up again."""
    before, first = look(AT - 900), look(boot_ticks=99_000, ticks=60, boot=AT - 60)
    later = look(AT + 300, boot_ticks=99_000, ticks=360, boot=AT - 60)
    gaps = cronwatch.following(first, before, []).gaps
    gaps = cronwatch.following(later, first, gaps).gaps
    assert cronwatch.reason(AT - 120, gaps, 0) == "the host was down"
    assert cronwatch.reason(AT - 120, gaps, AT - 110) == "cron did not fire"
    assert cronwatch.following(look(AT + 90_000, ticks=140_000), look(AT + 89_700, ticks=139_700), gaps).gaps == []


def test_a_run_that_did_not_come_is_told_and_caught_up_once(
    trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(app="", command=(), action="service.restart", params=("unit=nginx.service",), catch_up=True)
    vouch(job, action="service.restart", params=list(job.params))
    started: list[tuple[int, str]] = []

    def launch(name: str, due: int, trigger: str, by: str, run: str) -> str:
        started.append((due, trigger))
        return run

    monkeypatch.setattr(cronfire, "launch", launch)
    monkeypatch.setattr("checks.unit_states", lambda names: ["inactive"])
    found = cronjobs.read("report")
    assert found
    line("A", "start", due=(AT + 300) * 1000, started=NOW)
    line("A", "end", outcome="ok")
    later = look(AT + 1500)
    for _ in range(2):
        cronwatch._look_for_missed(job, cronvouch.standing(found), later, alike())
    assert started == [(AT + 900, "catch-up")]
    assert told == [("cron.missed", "open")]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", ["told", "launched", "recorded"])
def test_a_watch_that_is_cut_off_catches_up_once(
    told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before the run was launched, before that was noted, and after it; the power goes as well, but for the last."""
    job = put(catch_up=True)
    os.utime(job_file(), (1, 1))
    with cronjobs.alone("report"):
        cronjobs.set_state("report", watched=AT)
    started: list[int] = []
    is_over = False

    def launch(name: str, due: int, trigger: str, by: str, run: str) -> str:
        if when == "told" and not is_over:
            raise Killed
        started.append(due)
        if when == "recorded" or is_over:
            line(run, "start", due=due * 1000, started=NOW, trigger=trigger)
        if not is_over:
            raise Killed
        return run

    monkeypatch.setattr(cronfire, "launch", launch)
    monkeypatch.setattr("checks.unit_states", lambda names: ["active"])

    def watched(at: int) -> None:
        cronwatch._look_for_missed(job, cronvouch.Standing(""), look(at), alike())

    with pytest.raises(Killed):
        watched(AT + 1500)
    is_over = True
    for _ in range(3):
        watched(AT + 1500)
    # What nobody recorded nobody ran: the second one is the first.
    assert started == {"told": [AT + 900], "launched": [AT + 900] * 2, "recorded": [AT + 900]}[when]
    assert cronjobs.state("report")["watched"] == AT + 1500 - cronwatch.SETTLED_S
    assert set(told) == {("cron.missed", "open")}


def test_a_catch_up_that_the_power_cut_off_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    job = put(catch_up=True)
    os.utime(job_file(), (1, 1))
    with cronjobs.alone("report"):
        cronjobs.set_state("report", watched=AT)
    started: list[int] = []
    monkeypatch.setattr(cronfire, "launch", lambda name, due, *_: started.append(due))
    monkeypatch.setattr("checks.unit_states", lambda names: ["active"])
    cronwatch._look_for_missed(job, cronvouch.Standing(""), look(AT + 1500), alike())
    shutil.rmtree(layout.CRON_RUN)
    for _ in range(2):  # the second time it is only slow
        cronwatch._look_for_missed(job, cronvouch.Standing(""), look(AT + 1500), alike())
    assert started == [AT + 900] * 2


def test_what_was_before_it_was_installed_or_while_it_was_disabled_is_not_missed(
    trust: Any, told: list[tuple[str, str]]
) -> None:
    job = an_action()
    vouch(job, action="service.restart", params=list(job.params))
    found = cronjobs.read("report")
    assert found
    cronwatch._look_for_missed(job, cronvouch.standing(found), look(AT + 100), alike())
    with cronjobs.alone("report"):
        cronjobs.set_state("report", watched=AT + 3000)
    cronwatch._look_for_missed(job, cronvouch.standing(found), look(AT + 3200), alike())
    assert told == []


def test_a_run_that_was_cut_off_is_lost_and_one_that_goes_on_is_not(told: list[tuple[str, str]]) -> None:
    line("A", "start", started=NOW)
    line("B", "start", started=NOW)
    holder = cronturn.opened("report", cronturn.RUNNING)
    assert cronturn.take(holder, "B")
    cronwatch._look_at_runs("report", put(), look())
    assert [(run["run"], run["outcome"]) for run in cronlog.runs("report")] == [("B", "running"), ("A", "lost")]
    assert ("cron.failed", "open") in told
    os.close(holder)
    cronwatch._look_at_runs("report", None, look())
    assert {run["outcome"] for run in cronlog.runs("report")} == {"lost"}


def test_a_run_that_does_not_end_is_told(told: list[tuple[str, str]]) -> None:
    line("A", "start", started=NOW)
    holder = cronturn.opened("report", cronturn.RUNNING)
    assert cronturn.take(holder, "A")
    cronwatch._look_at_runs("report", put(), look(AT + 299))
    assert told == []
    cronwatch._look_at_runs("report", put(), look(AT + 300))
    assert told == [("cron.hanging", "open")]
    os.close(holder)


def test_a_crontab_of_another_time_is_mended_and_one_changed_by_hand_is_told(
    trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(schedule="0 8 * * *")
    cronwrite.write(layout.CRONTAB, cronwrite.crontab().encode(), 0o600)
    monkeypatch.setattr(cronjobs, "server_zone", lambda: "Asia/Kolkata")
    cronwatch._check_crontab()
    assert Path(layout.CRONTAB).read_text() == cronwrite.crontab() != ""
    Path(layout.CRONTAB).write_text("* * * * * root true\n")
    cronwatch._check_crontab()
    assert told == [("cron.changed", "resolved"), ("cron.changed", "open")]
    assert json.loads(Path(layout.WRITTEN).read_text())


# --- a run -----------------------------------------------------------------------------------------------------------


def perform(monkeypatch: pytest.MonkeyPatch, *ends: str, meanwhile: Any = None) -> dict[str, Any]:
    """The record of a run of a job whose attempts end so."""
    left = list(ends)

    def attempt(*_: Any) -> cronunit.Ended:
        if meanwhile:
            meanwhile()
        return cronunit.Ended(left.pop(0), "it said so", cpu_ms=10, peak_bytes=len(left))

    monkeypatch.setattr(cronunit.Attempt, "perform", attempt)
    monkeypatch.setattr(cronturn, "PAUSE_S", 0)
    cronrun.Supervisor(cronrun.Ask("report", RUN, AT, "schedule", "")).perform()
    return cronlog.runs("report")[0]


@pytest.fixture
def may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cronvouch, "standing", lambda *_: cronvouch.Standing(""))


def test_what_failed_is_tried_again_and_told_once_it_is_over(
    may_run: None, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(retries=2, retry_delay=0)
    run = perform(monkeypatch, "failed", "timeout", "ok")
    assert (run["outcome"], run["attempts"], run["cpu_ms"], run["peak_bytes"]) == ("ok", 3, 30, 2)
    assert ("cron.failed", "resolved") in told and ("cron.failed", "open") not in told


@pytest.mark.parametrize("outcome", ["killed", "ok"])
def test_what_was_killed_is_not_tried_again(may_run: None, monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    put(retries=2, retry_delay=0)
    assert perform(monkeypatch, outcome)["attempts"] == 1


def test_a_job_that_changes_meanwhile_ends_as_it_began_and_is_not_tried_again(
    may_run: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(retries=2, retry_delay=0)
    run = perform(monkeypatch, "failed", meanwhile=lambda: put(retries=1, retry_delay=0))
    assert run["attempts"] == 1 and "changed or removed meanwhile" in run["message"]


def test_a_job_that_goes_meanwhile_ends_as_it_began(may_run: None, monkeypatch: pytest.MonkeyPatch) -> None:
    put()
    run = perform(monkeypatch, "ok", meanwhile=lambda: os.unlink(f"{layout.CRON}/report.json"))
    assert run["outcome"] == "ok"


def test_a_run_that_comes_while_one_goes_on_is_skipped(
    may_run: None, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    holder = cronturn.opened("report", cronturn.RUNNING)
    assert cronturn.take(holder, "OTHER")
    run = perform(monkeypatch)
    os.close(holder)
    assert (run["outcome"], run["due"]) == ("skipped", AT * 1000) and "OTHER" in run["message"]
    assert told == [("cron.skipped", "open")]


def test_what_nobody_vouches_for_is_refused(
    trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    assert perform(monkeypatch)["outcome"] == "refused"
    assert told == [("cron.disabled", "open")]


# --- names of jobs and of ours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["watch", "installed", "heartbeat", "jobs", "state", "history", "running"])
def test_a_job_may_have_any_name(trust: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started: list[int] = []
    monkeypatch.setattr(cronfire, "launch", lambda name, due, *_: started.append(due))
    monkeypatch.setattr("alerts.resume", lambda: None)
    job = put(name=name, app="", command=(), action="service.restart", params=("unit=nginx.service",))
    with cronjobs.locked(f"{layout.CRON_RUN}/watch.lock"):
        cronfire.fire(name)
    assert started == [AT]
    vouch(job, action="service.restart", params=list(job.params))
    cronlog.append(name, {"t": "end", "run": RUN, "outcome": "ok"})
    cronwatch.watch()
    cronwatch.watch()
    assert [run["run"] for run in cronlog.runs(name)] == [RUN]
    assert cronjobs.state(name)["last_due"] == AT
    assert Path(f"{layout.CRON_STATE}/heartbeat").is_file()
    found = cronjobs.read(name)
    assert found and cronvouch.standing(found).name == "ana"


def test_a_lock_that_never_comes_free_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    monkeypatch.setattr("journal.note", noted.append)
    path = f"{layout.CRON_RUN}/watch.lock"
    with cronjobs.locked(path):
        again = cronjobs.locked(path, wait_s=0)
        with pytest.raises(TimeoutError, match="held by another process"):
            again.__enter__()
    assert noted == [f"{path} is held by another process for more than 0 s"]


def test_the_watch_sends_nothing_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have the secrets of all channels in its memory, and wait for all of them."""
    resumed: list[bool] = []
    monkeypatch.setattr("alerts.resume", lambda: resumed.append(True))
    monkeypatch.setattr("deliver.run", lambda *_: pytest.fail("it delivers"))
    cronwatch.watch()
    assert resumed == [True]


# --- what a job leaves behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 247, 248, 252])
def test_nothing_of_a_run_stays_in_shared_memory_or_below_run(version: int) -> None:
    owner = cronsandbox.Owner("shop", "/srv/shop", ("/srv/shop",))
    lines = cronsandbox.properties(put(), owner, "x.service", "/run/x", version)
    assert "ReadOnlyPaths=/run" in lines and "InaccessiblePaths=-/dev/mqueue" in lines
    withheld = "SystemCallFilter=~shmget semget msgget mq_open"
    assert ("PrivateIPC=yes" in lines) == (version >= 248) != (withheld in lines)
    if withheld in lines:
        assert lines.index(withheld) > lines.index("SystemCallFilter=@system-service")


# --- what may run no longer ------------------------------------------------------------------------------------------


@pytest.fixture
def installed(trust: Any) -> Job:
    job = an_action()
    vouch(job, action="service.restart", params=list(job.params))
    cronwrite.write(job_file(), job.as_json().encode(), 0o600)
    os.utime(job_file(), (AT - DAY, AT - DAY))
    return job


def in_file() -> dict[str, Any]:
    return dict(json.loads(Path(job_file()).read_text()))


def test_the_watch_writes_down_that_a_key_has_expired(
    installed: Job, trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (ana,) = (key for key in trust.command if key.name == "ana")
    monkeypatch.setattr(store, "now_ms", lambda: ana.not_before - 1)
    assert cronwrite.disable() == ["report"]
    assert in_file()["enabled"] is True  # by a clock that is wrong: it may go on once that is right
    monkeypatch.setattr(store, "now_ms", lambda: ana.expires)
    for seconds in (0, 300, 86_400 - 1):
        monkeypatch.setattr(cronjobs, "now", lambda at=AT + seconds: at)
        assert cronwrite.disable() == ["report"]
        assert in_file()["enabled"] is True
    monkeypatch.setattr(cronjobs, "now", lambda: AT + 86_400)
    assert cronwrite.disable() == ["report"]
    assert in_file()["enabled"] is False and "outside its dates" in in_file()["disabled_because"]
    assert told == [("cron.disabled", "open")] * 5
    assert os.path.isdir(layout.KEPT) is False


def test_a_clock_that_is_years_ahead_for_a_while_disables_nothing_for_good(
    installed: Job, trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.resume", lambda: None)
    clocks = [(10 * 365 * 86_400, 2), (600, 1), (11 * 365 * 86_400, 1), (900, 1)]
    for ahead, looks in clocks:
        for number in range(looks):
            at = AT + ahead + number * 300
            monkeypatch.setattr(cronjobs, "now", lambda at=at: at)
            monkeypatch.setattr(store, "now_ms", lambda at=at: at * 1000)
            cronwatch.watch()
            assert in_file()["enabled"] is True
            assert standing() == ("disabled" if ahead > 900 else "")  # no run comes through meanwhile
    kinds = [state for kind, state in told if kind == "cron.disabled"]
    assert kinds == ["open", "open", "resolved", "open", "resolved"]


def test_a_job_that_was_changed_by_hand_is_kept_aside_disabled_and_told_once(
    installed: Job, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.resume", lambda: None)
    by_hand = installed._replace(schedule="* * * * *").as_json()
    Path(job_file()).write_text(by_hand)
    cronwatch.watch()
    assert in_file()["enabled"] is False and "changed by hand" in in_file()["disabled_because"]
    assert [path.read_text() for path in Path(layout.KEPT).iterdir()] == [by_hand]
    cronwatch.watch()
    assert [kind for kind in told if kind[1] == "open" and "crontab" not in kind[0]][:1] == [("cron.disabled", "open")]
    assert ("cron.disabled", "resolved") not in told
    vouch(put(**installed._asdict()), action="service.restart", params=list(installed.params))
    cronwatch.watch()
    assert ("cron.disabled", "resolved") in told


def test_a_job_whose_installation_was_cut_off_can_be_installed_anew(trust: Any, told: list[tuple[str, str]]) -> None:
    """Else its file would be as it should, and a plan would show nothing to do."""
    job = an_action()
    cronwrite.write(job_file(), job.as_json().encode(), 0o600)
    cronwrite.disable()
    assert job.as_json() != Path(job_file()).read_text()
    assert os.path.isdir(layout.KEPT) is False
    vouch(put(**job._asdict()), action="service.restart", params=list(job.params))
    assert standing() == ""


def test_a_damaged_job_stays_as_it_is_and_is_told(trust: Any, told: list[tuple[str, str]]) -> None:
    Path(job_file()).write_text("{")
    cronwrite.disable()
    assert Path(job_file()).read_text() == "{"
    assert told == [("cron.changed", "open")]


@pytest.mark.parametrize("waits", ["lock", "pending"])
def test_nothing_is_written_or_told_while_a_change_is_at_work(
    trust: Any, told: list[tuple[str, str]], waits: str
) -> None:
    job = an_action()
    os.makedirs(layout.SAFE)
    if waits == "pending":
        Path(f"{layout.SAFE}/pending").write_text(RUN)
    lock = store.take_lock("server" if waits == "lock" else "another", 0, {})
    assert cronwrite.disable() == []
    os.close(lock)
    assert (Path(job_file()).read_text(), told) == (job.as_json(), [])


def test_a_full_disk_does_not_keep_it_from_being_told(
    trust: Any, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = an_action()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_file", full)
    assert cronwrite.disable() == ["report"]
    assert (Path(job_file()).read_text(), told) == (job.as_json(), [("cron.disabled", "open")])


def test_a_trust_file_disables_jobs_before_its_receipt_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may be gone by then. A receipt that cannot be written keeps no job in force, either."""
    order: list[str] = []
    monkeypatch.setattr(updates, "_about", lambda *_: {})
    monkeypatch.setattr(updates, "_successor", lambda *_: SimpleNamespace(version=2))
    monkeypatch.setattr("trust_store.install_trust", lambda *_: order.append("installed"))
    monkeypatch.setattr("cronwrite.disable", lambda *_, **__: order.append("disabled"))
    monkeypatch.setattr("chain.append_receipt", lambda *_: order.append("recorded"))
    monkeypatch.setattr("receipt.build", lambda *_, **__: {})
    session = SimpleNamespace(
        trust=SimpleNamespace(root=None), reload_trust=lambda: None, lock=lambda *_: -1, versions={}, identity=None,
        channel=SimpleNamespace(send=lambda *_: order.append("sent")),
    )  # fmt: skip
    updates.take_trust(cast("Any", session), cast("Any", SimpleNamespace(body=b"", blobs=())))
    assert order == ["installed", "recorded", "disabled", "sent"]


# --- a run that goes on ----------------------------------------------------------------------------------------------


def goes_on(monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> dict[str, Any]:
    """The record of a run that asks whether it has to end once that has come in between."""

    def act(supervisor: cronrun.Supervisor, *_: Any) -> cronunit.Ended:
        meanwhile()
        why = supervisor.stop()
        return cronunit.Ended("killed", why) if why else cronunit.Ended("ok")

    monkeypatch.setattr(cronrun.Supervisor, "_act", act)
    monkeypatch.setattr(cronrun, "_LOOK_S", 0)
    cronrun.Supervisor(cronrun.Ask("report", RUN, AT, "schedule", "")).perform()
    return cronlog.runs("report")[0]


def test_a_run_ends_when_its_key_is_revoked(installed: Job, trust: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without = trust._replace(command=tuple(key for key in trust.command if key.name != "ana"))

    def revoked() -> None:
        monkeypatch.setattr("trust_store.current", lambda: without)
        cronwrite.disable()

    record = goes_on(monkeypatch, revoked)
    assert record["outcome"] == "killed" and "not in the trust file" in record["message"]


def test_a_run_ends_when_its_job_is_removed(
    installed: Job, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = goes_on(monkeypatch, lambda: os.unlink(job_file()))
    assert (record["outcome"], record["message"]) == ("killed", "the job was removed meanwhile")
    assert ("cron.failed", "open") not in told


def test_a_run_goes_on_when_its_job_is_changed_or_disabled(installed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert goes_on(monkeypatch, lambda: put(**{**installed._asdict(), "enabled": False}))["outcome"] == "ok"


def test_an_action_is_looked_at_again_once_the_lock_is_held(
    trust: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for it may take as long as the run: the key may have been revoked, the job changed."""
    job = put(app="", command=(), action="service.restart", params=("unit=nginx.service",))
    vouch(job, action="service.restart", params=list(job.params))
    for name in ("OPS", "BLOBS"):
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    monkeypatch.setattr(operation, "HERE", str(tmp_path))
    (tmp_path / "registry.json").write_text(json.dumps(registry.manifest()))
    monkeypatch.setattr("trust_store.bundle_version", lambda: 1)
    monkeypatch.setattr(operation, "start", lambda *_, **__: pytest.fail("it was started"))
    lock = operation._wait_for_lock
    without = trust._replace(command=tuple(key for key in trust.command if key.name != "ana"))

    def waited(*given: Any) -> int:
        held = lock(*given)
        monkeypatch.setattr("trust_store.current", lambda: without)
        return held

    monkeypatch.setattr(operation, "_wait_for_lock", waited)
    cronrun.Supervisor(cronrun.Ask("report", RUN, AT, "schedule", "")).perform()
    record = cronlog.runs("report")[0]
    assert "not in the trust file" in record["message"]
    assert record["outcome"] == "refused"
    assert os.path.isdir(layout.OPS) is False


@pytest.mark.parametrize("ends", ["decided", "patience", "told"])
def test_an_action_waits_for_the_end_of_a_safe_change(trust: Any, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Without holding the lock, which whoever confirms needs; another safe change may come before we have it."""
    pending = Path(layout.SAFE) / "pending"
    pending.parent.mkdir()
    pending.write_text(RUN)
    monkeypatch.setattr(operation, "_LOOK_S", 0.01)
    request = cast("Any", SimpleNamespace(entry={"locks": ["server"]}, about={"op_id": "x", "action": "y",
                                                                              "actor": {"name": "z"}}))  # fmt: skip
    looks: list[bool] = []
    wait = operation._wait_for_lock

    def waited(*given: Any) -> int:
        held = wait(*given)
        if len(looks) == 3:
            pending.write_text(RUN)
        return held

    def stop() -> str:
        looks.append(True)
        os.close(store.take_lock("server", 0, {}))
        if ends == "decided" and len(looks) in (3, 6):
            pending.unlink()
        return "no more" if ends == "told" and len(looks) >= 5 else ""

    monkeypatch.setattr(operation, "_wait_for_lock", waited)
    if ends == "decided":
        os.close(operation._wait_for_turn(request, 30, stop))
        assert len(looks) == 6
        return
    with pytest.raises(Denied) as denied:
        operation._wait_for_turn(request, 0.05 if ends == "patience" else 30, stop)
    assert denied.value.code == {"patience": "pending-change", "told": "killed"}[ends]
    assert len(looks) > 1


def test_a_run_that_waits_is_neither_missed_nor_lost(
    may_run: None, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = put(overlap="wait", catch_up=True)
    monkeypatch.setattr(cronfire, "launch", lambda *_: pytest.fail("it runs twice"))
    holder = cronturn.opened("report", cronturn.RUNNING)
    assert cronturn.take(holder, "OTHER")
    line("OTHER", "start", due=(AT - 300) * 1000, started=NOW - 300_000)
    seen: list[str] = []

    def pause(_: Any) -> None:
        monkeypatch.setattr(cronjobs, "now", lambda: AT + 660)
        cronwatch._look_at_runs("report", job, look(AT))
        with cronjobs.alone("report"):
            cronjobs.set_state("report", watched=AT - 60)
        cronwatch._look_for_missed(job, cronvouch.Standing(""), look(AT + 400), alike())
        seen.extend(run["message"] for run in cronlog.runs("report") if run["run"] == RUN)
        line("OTHER", "end", outcome="ok")
        os.close(holder)

    monkeypatch.setattr(cronrun.Supervisor, "_pause", pause)
    run = perform(monkeypatch, "ok")
    assert (run["outcome"], run["message"], run["due"]) == ("ok", "it said so", AT * 1000)
    assert seen == ["it waits for the end of the run OTHER"]
    assert not {"cron.missed", "cron.failed"} & {kind for kind, state in told if state == "open"}


# --- a clock that was wrong ------------------------------------------------------------------------------------------


def _a_history_shorter_than_the_look(monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(cronlog, "RUNS", 20)
    monkeypatch.setattr(cronlog, "_LINES", 60)
    monkeypatch.setattr(cronfire, "launch", lambda *_: pytest.fail("it is caught up"))
    for number in reversed(range(100)):
        due = (AT - 300 * number) * 1000
        line(f"{number:03}", "start", started=due, due=due)
        line(f"{number:03}", "end", outcome="ok", ended=due, due=due)
    assert len(cronlog.runs("report")) <= 20
    job = put(catch_up=True)
    os.utime(job_file(), (1, 1))
    return job


def test_a_clock_that_was_set_back_for_one_look_makes_no_run_a_missed_one(
    told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _a_history_shorter_than_the_look(monkeypatch)
    looks = [look(AT), look(AT - 2 * 86400, ticks=50_300), look(AT + 300, ticks=50_600)]
    before = looks[0]
    for each in looks:
        cronwatch._look_for_missed(job, cronvouch.Standing(""), each, cronwatch.Past(before, []))
        before = each
    assert told == []


def test_nor_does_a_watch_that_stood_still(told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    job = _a_history_shorter_than_the_look(monkeypatch)
    with cronjobs.alone("report"):
        cronjobs.set_state("report", watched=AT - 20_000)
    cronwatch._look_for_missed(
        job, cronvouch.Standing(""), look(AT), cronwatch.Past(look(AT - 20_000, ticks=30_000), [])
    )
    assert told == []


def test_what_was_told_before_the_clock_was_set_back_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    missed: list[list[int]] = []
    monkeypatch.setattr(cronwatch, "_tell_of_missed", lambda _, due, *__: missed.append(due))
    job = put()
    os.utime(job_file(), (1, 1))
    with cronjobs.alone("report"):
        cronjobs.set_state("report", watched=AT - 3600)
    looks = [look(AT), look(AT - 86400, ticks=50_300), look(AT + 600, ticks=50_600)]
    before = look(AT - 300, ticks=49_700)
    for each in looks:
        cronwatch._look_for_missed(job, cronvouch.Standing(""), each, cronwatch.Past(before, []))
        before = each
    assert missed == [list(range(AT - 3300, AT - 360, 300)), [AT - 300, AT]]
