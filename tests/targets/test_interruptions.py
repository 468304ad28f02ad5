"""Ctrl-C, dropped connections, two at once, and what the chains of receipts show of tampering."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .operator import Operator, eventually
from .target import Target

UNIT = "[Service]\nExecStartPre=/bin/sleep 6\nExecStart=/bin/sleep infinity\nTimeoutStartSec=120\n"


@pytest.fixture
def slow(target: Target) -> Iterator[str]:
    """A unit that takes its time to start."""
    target.run("sh", "-c", "cat >/etc/systemd/system/slow.service; systemctl daemon-reload", input=UNIT)
    yield "slow"
    target.run(
        "sh",
        "-c",
        "systemctl kill -s KILL slow; rm /etc/systemd/system/slow.service; systemctl daemon-reload",
        check=False,
    )


def running(target: Target) -> list[str]:
    """The ids of operations whose executor is alive, from systemd."""
    said = target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-op-*").stdout
    return [found.upper() for found in re.findall(r"serverflow-op-(\w+)\.service", said)]


def begun(target: Target) -> str:
    eventually(lambda: running(target), "an operation runs")
    return running(target)[0]


def test_ctrl_c_leaves_the_work_to_the_server(operator: Operator, target: Target, slow: str) -> None:
    process = operator.start("service", "restart", slow, "--on", "web1", "--yes")
    op = begun(target)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and f"sf op follow {op}" in said and "Traceback" not in said
    assert op in running(target)
    listed = {row["op"]: row for row in operator.json("op", "list")["data"]["ops"]}
    assert listed[op]["outcome"] == ["unknown"]
    assert operator.json("op", "status", op)["servers"][0]["outcome"] == "running"
    followed = operator.json("op", "follow", op)
    assert followed["servers"][0]["outcome"] == "done"
    assert target.run("systemctl", "is-active", slow).stdout == "active\n"
    listed = {row["op"]: row for row in operator.json("op", "list")["data"]["ops"]}
    assert listed[op]["outcome"] == ["done"]
    operator.run("audit", "verify", "--against", "web1")


def test_ctrl_c_ends_a_stream(operator: Operator, target: Target) -> None:
    process = operator.start("service", "logs", "ssh", "--on", "web1", "--follow")
    assert process.stdout
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "op follow" not in said and "Traceback" not in said


def test_a_dropped_connection(operator: Operator, target: Target, slow: str) -> None:
    process = operator.start("service", "restart", slow, "--on", "web1", "--yes")
    op = begun(target)
    target.run("pkill", "-KILL", "-u", "serverflow")  # the session's sshd
    _, said = process.communicate()
    assert process.returncode == 13 and f"sf op follow {op}" in said, said
    eventually(lambda: not running(target), "it ends")
    ended = operator.json("op", "status", op)["servers"][0]
    assert ended["outcome"] == "done" and ended["data"]["action"] == "service.restart"
    assert any(row["op"] == op for row in operator.json("audit", "log")["data"]["receipts"])


def test_cancel(operator: Operator, target: Target, slow: str) -> None:
    process = operator.start("service", "restart", slow, "--on", "web1", "--yes")
    op = begun(target)
    told = operator.json("op", "cancel", op, "--yes", check=False)
    process.communicate()
    assert process.returncode == 6
    assert told["servers"][0]["outcome"] == "killed" and told["ok"]  # which is what was asked for
    assert running(target) == []
    units = target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-run-*").stdout
    assert units == ""
    left = target.run(
        "sh", "-c", f"find /sys/fs/cgroup -path '*{op.lower()}*' -name cgroup.procs -exec cat {{}} +"
    ).stdout
    assert left == ""


def test_two_at_once(operator: Operator, target: Target, slow: str) -> None:
    first = operator.start("service", "restart", slow, "--on", "web1", "--yes")
    op = begun(target)
    late = operator.run("service", "restart", "cron", "--on", "web1", "--yes", "--lock-wait", "1s", check=False)
    assert late.returncode == 8, late.stderr
    assert re.search(rf"service\.restart by ana holds the lock for \d+ s \(op {op}\)", late.stderr)
    patient = operator.run("service", "restart", "cron", "--on", "web1", "--yes")
    assert "waiting" in patient.stderr
    first.communicate()
    assert first.returncode == 0


def test_a_tampered_chain_is_found(operator: Operator, target: Target) -> None:
    for _ in range(3):
        operator.run("service", "restart", "cron", "--on", "web1", "--yes")
    operator.run("audit", "verify", "--against", "web1")
    chain: Path = operator.state / "receipts.jsonl"
    kept = chain.read_text()
    lines = kept.splitlines(keepends=True)
    changed = json.loads(lines[-1])
    changed["body"] = changed["body"].replace("service.restart", "service.stop")
    for name, text in {
        "changed": "".join([*lines[:-1], json.dumps(changed) + "\n"]),
        "removed": "".join([*lines[:-2], lines[-1]]),
        "reordered": "".join([*lines[:-2], lines[-1], lines[-2]]),
        "garbage": "".join([*lines[:-1], "{}\n", lines[-1]]),
    }.items():
        chain.write_text(text)
        done = operator.run("audit", "verify", check=False)
        assert done.returncode == 4 and "line " in done.stderr, name
    chain.write_text(kept)
    operator.run("audit", "verify")

    theirs = "/var/lib/serverflow/receipts.chain"
    whole = target.run("cat", theirs).stdout
    there = whole.splitlines(keepends=True)
    try:
        for text in (
            "".join(there[:-1]),
            "".join([*there[:-2], there[-1]]),
            "".join([*there[:-2], there[-1], there[-2]]),
        ):
            target.run("sh", "-c", f"cat >{theirs}", input=text)
            done = operator.run("audit", "verify", "--against", "web1", check=False)
            assert done.returncode == 4 and "sf: error: web1: " in done.stderr, done.stderr
    finally:
        target.run("sh", "-c", f"cat >{theirs}", input=whole)
    operator.run("audit", "verify", "--against", "web1")
