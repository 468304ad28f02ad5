"""Jobs that the real cron daemon fires, and what is left of the worst of them. All are due in the same minute."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import pending
from .areas import run
from .operator import eventually
from .shop import (
    CRONTAB,
    EACH_MINUTE,
    NEVER,
    STATE,
    Shop,
    alerts,
    history,
    look,
    nothing_runs,
    open_shop,
    processes,
)
from .target import Fleet

_SCRIPTS = {
    "good": "#!/bin/sh\necho good\ncat /proc/self/cgroup >&2\n",
    "fail": "#!/bin/sh\necho out; echo err >&2; exit 3\n",
    "crash": "#!/bin/sh\nkill -SEGV $$\n",
    "hang": "#!/bin/sh\ntrap '' TERM\nsetsid sleep 1001 & while :; do sleep 1000; done\n",
    "eat": "#!/usr/bin/python3\nheld = []\nwhile True: held.append(bytearray(b'x' * (8 << 20)))\n",
    "bomb": """#!/usr/bin/python3
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "chatty": "#!/bin/sh\necho first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last\n",
    # A daemon of its own session that has closed what it was given, and hears no signal but one.
    "daemon": """#!/usr/bin/python3
import os, signal, time
if os.fork() == 0:
    os.setsid()
    for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.closerange(0, 100)
        time.sleep(1000)
    os._exit(0)
print("left")
""",
    "flaky": "#!/bin/sh\ntest -e tried || { touch tried; echo not yet; exit 4; }\necho done\n",
    # Until it is told to end.
    "wait": "#!/bin/sh\necho $SF_RUN\nwhile test -e hold; do sleep 0.1; done\n",
}
_OPTIONS = {
    "hang": 'timeout = "2s"',
    "eat": 'memory = "64MiB"',
    "bomb": 'timeout = "3s"',
    "fail": 'retries = 2\nretry_delay = "1s"',
    "flaky": 'retries = 1\nretry_delay = "1s"',
}


def _stanza(name: str, schedule: str = EACH_MINUTE, options: str = "") -> str:
    return f'schedule = "{schedule}"\napp = "shop"\ncommand = ["bin/{name}"]\n{options}'


@pytest.fixture(scope="module")
def shop(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(fleet, tmp_path_factory.mktemp("runs")) as opened:
        for name, text in _SCRIPTS.items():
            opened.script(name, text)
        yield opened


@pytest.fixture(scope="module")
def first(shop: Shop) -> dict[str, dict[str, Any]]:
    """The first run of each, by cron; after that they are disabled."""
    jobs = {name: _stanza(name, options=_OPTIONS.get(name, "")) for name in _SCRIPTS if name != "wait"}
    jobs["restart"] = f'schedule = "{EACH_MINUTE}"\naction = "service.restart"\nparams = {{ unit = "cron" }}\n'
    shop.apply(jobs)
    found = {name: shop.ended(name)[0] for name in jobs}
    shop.apply({name: f"{text}\nenabled = false" for name, text in jobs.items()})
    nothing_runs(shop.target)
    return found


def _output(shop: Shop, job: str) -> dict[str, Any]:
    path = f"{STATE}/{job}/out"
    newest = shop.target.run("ls", path).stdout.split()[0]
    return dict(json.loads(shop.target.run("cat", f"{path}/{newest}").stdout))


# --- one run of each --------------------------------------------------------------------------------------------------


def test_cron_fires_in_a_unit_of_its_own(shop: Shop, first: dict[str, dict[str, Any]]) -> None:
    record = first["good"]
    assert (record["outcome"], record["exit"], record["trigger"], record["by"]) == ("ok", 0, "schedule", "")
    assert record["due"] % 60_000 == 0
    assert 0 <= record["started"] - record["due"] < 60_000
    written = _output(shop, "good")["head"]
    assert written.startswith("good\n")
    assert f"serverflow-job-good-{record['run'].lower()}" in written
    assert "cron.service" not in written
    assert "cron.failed/good" not in alerts(shop.target)


@pytest.mark.parametrize(
    ("job", "outcome", "exit", "signals"),
    [
        ("fail", "failed", 3, [None]),
        ("crash", "failed", None, [11]),
        # None: it had to be killed before systemd could say how it ended.
        ("hang", "timeout", None, [9, None]),
        ("eat", "out-of-memory", None, [9, None]),
        ("bomb", "timeout", None, [9, None]),
    ],
)
def test_how_a_run_ends(
    shop: Shop, first: dict[str, dict[str, Any]], job: str, outcome: str, exit: int | None, signals: list[int | None]
) -> None:
    record = first[job]
    assert (record["outcome"], record["exit"]) == (outcome, exit), record
    assert record["signal"] in signals
    assert f"cron.failed/{job}" in alerts(shop.target)
    assert [each["run"] for each in run(shop.operator, "cron", "history", job, "--failed")["data"]["runs"]][-1] == (
        record["run"]
    )


def test_nothing_survives(shop: Shop, first: dict[str, dict[str, Any]]) -> None:
    """Of any of them; and the server is usable."""
    assert first["daemon"]["outcome"] == "ok"
    assert processes(shop.target) == ""
    for service in "cron", "ssh", "systemd-journald":
        assert shop.target.run("systemctl", "is-active", service).stdout == "active\n"
    run(shop.operator, "system", "info")


def test_figures(first: dict[str, dict[str, Any]]) -> None:
    assert 48 << 20 < first["eat"]["peak_bytes"] <= 64 << 20
    assert first["bomb"]["cpu_ms"] > 500
    assert 0 < first["good"]["cpu_ms"] < 5000
    assert 0 < first["good"]["peak_bytes"] < 64 << 20


def test_output_is_drained_and_bounded(shop: Shop, first: dict[str, dict[str, Any]]) -> None:
    assert first["chatty"]["outcome"] == "ok"
    kept = _output(shop, "chatty")
    assert kept["length"] == 100_000_000 + len("first\n\nlast\n")
    assert (kept["head"][:6], kept["tail"][-6:]) == ("first\n", "\nlast\n")
    assert len(kept["head"]) == len(kept["tail"]) == 32 << 10
    assert first["chatty"]["peak_bytes"] < 64 << 20
    shown = run(shop.operator, "cron", "logs", "chatty")["data"]
    assert shown["omitted"] == kept["length"] - (64 << 10)


def test_retries(shop: Shop, first: dict[str, dict[str, Any]]) -> None:
    assert (first["fail"]["attempts"], first["fail"]["outcome"]) == (3, "failed")
    at = [line["at"] for line in history(shop.target, "fail") if line["t"] == "attempt"][:2]
    assert at[1] - at[0] >= 2000 > 1000 <= at[0] - first["fail"]["started"]  # twice as long each time
    assert _output(shop, "fail")["head"].count("out\nerr\n") == 3
    assert (first["flaky"]["attempts"], first["flaky"]["outcome"]) == (2, "ok")
    assert "cron.failed/flaky" not in alerts(shop.target)


def test_an_action_that_restarts_cron_itself(shop: Shop, first: dict[str, dict[str, Any]]) -> None:
    record = first["restart"]
    assert (record["outcome"], record["trigger"]) == ("ok", "schedule")
    (receipt,) = (body for body in pending.receipts(shop.target) if body["op_id"] == record["op"])
    installed = {body["op_id"]: body["action"] for body in pending.receipts(shop.target)}
    assert (receipt["action"], installed[receipt["trigger"]]) == ("service.restart", "cron.add")


# --- one after the other ----------------------------------------------------------------------------------------------


def _holding(shop: Shop, job: str, overlap: str) -> str:
    """A job whose run does not end before `hold` is gone; the run."""
    shop.target.run("touch", "/srv/shop/hold")
    shop.add(job, "bin/wait", overlap=overlap)
    return _started(shop, job)


def _started(shop: Shop, job: str) -> str:
    started: str = run(shop.operator, "cron", "run", job, "--no-wait", "--yes")["data"]["run"]
    return started


def _records(shop: Shop, job: str, count: int) -> dict[str, dict[str, Any]]:
    return {record["run"]: record for record in shop.ended(job, count, timeout=30)}


def _let_go(shop: Shop) -> None:
    shop.target.run("rm", "-f", "/srv/shop/hold")


def _is_running(shop: Shop, job: str, number: str) -> None:
    unit = f"serverflow-job-{job}-{number.lower()}-1.service"
    eventually(lambda: shop.target.run("systemctl", "is-active", unit, check=False).stdout == "active\n", unit)


def test_overlap_skip(shop: Shop) -> None:
    one = _holding(shop, "skipper", "skip")
    _is_running(shop, "skipper", one)
    two = _started(shop, "skipper")
    skipped = _records(shop, "skipper", 1)[two]
    assert (skipped["outcome"], one in skipped["message"]) == ("skipped", True)
    assert "cron.skipped/skipper" in alerts(shop.target)
    _let_go(shop)
    assert _records(shop, "skipper", 2)[one]["outcome"] == "ok"
    eventually(lambda: "cron.skipped/skipper" not in alerts(shop.target), "that is over")


def test_overlap_wait(shop: Shop) -> None:
    one = _holding(shop, "waiter", "wait")
    _is_running(shop, "waiter", one)
    two = _started(shop, "waiter")
    eventually(lambda: two.lower() in shop.target.run("systemctl", "list-units", "--plain").stdout, "it waits")
    three = _started(shop, "waiter")
    assert _records(shop, "waiter", 1)[three]["outcome"] == "skipped"  # one waits already
    _let_go(shop)
    records = _records(shop, "waiter", 3)
    assert records[one]["outcome"] == records[two]["outcome"] == "ok"
    assert records[one]["ended"] <= records[two]["started"]


def test_overlap_kill(shop: Shop) -> None:
    one = _holding(shop, "killer", "kill")
    _is_running(shop, "killer", one)
    two = _started(shop, "killer")
    killed = _records(shop, "killer", 1)[one]
    assert (killed["outcome"], "the next run took its place" in killed["message"]) == ("killed", True)
    _is_running(shop, "killer", two)
    _let_go(shop)
    assert _records(shop, "killer", 2)[two]["outcome"] == "ok"
    nothing_runs(shop.target)


# --- what goes wrong around it ----------------------------------------------------------------------------------------


def test_a_supervisor_that_is_killed(shop: Shop) -> None:
    """Its run is lost, with all its processes, and somebody hears of it. The next run is as any other."""
    one = _holding(shop, "orphan", "skip")
    _is_running(shop, "orphan", one)
    shop.target.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", f"serverflow-cron-orphan-{one.lower()}")
    nothing_runs(shop.target)
    assert [line["t"] for line in history(shop.target, "orphan")] == ["start"]
    look(shop.target)
    assert _records(shop, "orphan", 1)[one]["outcome"] == "lost"
    assert "cron.failed/orphan" in alerts(shop.target)
    _let_go(shop)
    assert shop.by_hand("orphan")["outcome"] == "ok"
    assert "cron.failed/orphan" not in alerts(shop.target)


def test_a_line_that_a_crash_has_torn(shop: Shop) -> None:
    shop.add("torn", "bin/good")
    before = shop.by_hand("torn")["run"]
    path = f"{STATE}/torn/history"
    # As a power cut leaves it, in the middle of a line.
    shop.target.run("sh", "-c", f"head -c 70 {path} | tr -d '\\n' >> {path}")
    after = shop.by_hand("torn")["run"]
    assert [line["run"] for line in history(shop.target, "torn")] == [before, before, after, after]
    assert [each["run"] for each in run(shop.operator, "cron", "history", "torn")["data"]["runs"]] == [after, before]


@pytest.mark.parametrize("number", range(6))
def test_killed_while_it_writes_the_history(shop: Shop, number: int) -> None:
    """At whatever moment: the history stays readable, and the run is ok, lost, or was never begun."""
    if number == 0:
        shop.add("cut", "bin/good")
    started = _started(shop, "cut")
    unit = f"serverflow-cron-cut-{started.lower()}"
    path = f"{STATE}/cut/history"
    size = f"stat -c %s {path} 2>/dev/null || echo 0"
    # The number says after how many bytes of its start and end line.
    kill = f"before=$({size}); for i in $(seq 500); do [ $({size}) -gt $((before + {number * 80})) ] && break; done; "
    shop.target.run("sh", "-c", kill + f"systemctl kill --signal=KILL --kill-who=main {unit}", check=False)
    nothing_runs(shop.target)
    look(shop.target)
    after = shop.by_hand("cut")["run"]
    runs = {each["run"]: each["outcome"] for each in run(shop.operator, "cron", "history", "cut")["data"]["runs"]}
    assert runs[after] == "ok"
    assert runs.get(started, "") in ("", "ok", "lost"), history(shop.target, "cut")
    assert "running" not in runs.values()


def test_a_full_disk_keeps_no_job_from_running(shop: Shop) -> None:
    shop.add("full", "bin/good")
    shop.by_hand("full")
    fill = f"cd {STATE}; mount -t tmpfs -o size=64k,nr_inodes=2 none full; dd if=/dev/zero of=full/x bs=4k || true"
    shop.target.run("sh", "-c", fill)
    try:
        without = shop.by_hand("full")
        assert (without["outcome"], without["output"]["kept"]) == ("ok", False)
    finally:
        shop.target.run("umount", f"{STATE}/full")
    after = shop.by_hand("full")["run"]
    runs = run(shop.operator, "cron", "history", "full")["data"]["runs"]
    assert [each["run"] for each in runs][:2] == [after, without["run"]]


def test_an_app_whose_folder_leads_elsewhere(shop: Shop) -> None:
    """The app's user could have put a link there, to have another folder opened for writing."""
    shop.add("link", "/bin/true")
    shop.target.run("sh", "-c", "mv /srv/shop /srv/shop.away && ln -s /etc /srv/shop")
    try:
        record = shop.by_hand("link", exit=6)
    finally:
        shop.target.run("sh", "-c", "rm /srv/shop && mv /srv/shop.away /srv/shop")
    assert (record["outcome"], "a link leads elsewhere" in record["message"]) == ("failed", True)


def test_cron_reads_no_crontab_that_others_may_write(shop: Shop) -> None:
    """What keeps it from firing is seen, and put right."""
    shop.apply({"never": _stanza("good", NEVER)})
    shop.target.run("chmod", "666", CRONTAB)
    assert shop.operator.run("plan", "--check", "--only", "cron", check=False).returncode == 11
    shop.operator.run("apply", "--only", "cron", "--yes")
    assert shop.target.run("stat", "-c", "%U %a", CRONTAB).stdout == "root 600\n"
