"""Enrolment adds no weakness that ssh-audit finds from outside, or systemd-analyze from inside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .operator import Operator
from .target import Target

SSH_AUDIT = Path(sys.executable).with_name("ssh-audit")
ROLLBACK = "serverflow-rollback.service"


def audited(target: Target) -> Any:
    """All that ssh-audit finds: algorithms with remarks, key sizes, known vulnerabilities, advice."""
    argv: list[str | Path] = [SSH_AUDIT, "--json", "--skip-rate-test", "--port", str(target.port), target.host]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    # sshd keeps a list of callers that do not log in (PerSourcePenalties): we want to come in again.
    target.run("systemctl", "restart", "ssh")
    found = json.loads(done.stdout)
    assert found["kex"], done.stderr
    return found


def exposure(target: Target) -> dict[str, float]:
    """Exposure level by unit, from 0 (safe) to 10, as `systemd-analyze security` rates it."""
    listing = target.run("systemd-analyze", "security", "--no-pager").stdout
    rows = (line.split() for line in listing.splitlines()[1:] if line)
    return {unit: float(level) for unit, level, *_ in rows}


@pytest.mark.parametrize("release", ["debian11", "debian12", "debian13"])
def test_no_new_weakness(fresh_target: Callable[..., Target], fresh_operator: Operator, release: str) -> None:
    target = fresh_target(release)
    before = audited(target), exposure(target)
    fresh_operator.add("web1", target)
    assert fresh_operator.json("service", "restart", "cron", "--on", "web1", "--yes")["ok"]
    after = audited(target), exposure(target)
    assert after[0] == before[0]
    worse = {unit: level for unit, level in after[1].items() if level > before[1].get(unit, 0)}
    # systemd calls up to 4.9 "OK"; a plain unit has 9.6, "UNSAFE".
    assert set(worse) <= {ROLLBACK}
    own = target.run("systemd-analyze", "security", "--no-pager", ROLLBACK).stdout.splitlines()[-1]
    assert float(own.split(": ")[1].split()[0]) < 5, own
