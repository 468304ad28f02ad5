"""The area service on a real server: what is changed is seen with systemctl(1)."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from .areas import changed, planned, refused, run, told
from .operator import Operator, eventually
from .target import Target

_UNIT = """[Service]
ExecStart=sleep infinity
ExecReload=sh -c 'echo again >> /run/probe.reloads'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def unit(target: Target) -> Iterator[str]:
    """A service of this test's own, stopped and disabled."""
    target.run("sh", "-c", "cat > /etc/systemd/system/probe.service; systemctl daemon-reload", input=_UNIT)
    yield "probe"
    target.run("systemctl", "disable", "--now", "probe")
    target.run("rm", "/etc/systemd/system/probe.service")
    target.run("systemctl", "daemon-reload")


def _is(target: Target, what: str) -> str:
    return target.run("systemctl", what, "probe", check=False).stdout.strip()


def _pid(target: Target) -> str:
    return target.run("systemctl", "show", "--value", "--property=MainPID", "probe").stdout.strip()


def test_start_and_stop(operator: Operator, target: Target, unit: str) -> None:
    assert changed(operator, "service", "start", unit, "--yes") == ["update unit probe.service"]
    assert _is(target, "is-active") == "active"
    target.run("systemctl", "stop", unit)
    assert planned(operator, "service", "start", unit) == ["update unit probe.service"]
    changed(operator, "service", "start", unit, "--yes")
    assert _is(target, "is-active") == "active"

    assert changed(operator, "service", "stop", unit, "--yes") == ["update unit probe.service"]
    assert _is(target, "is-active") == "inactive"
    target.run("systemctl", "start", unit)
    assert planned(operator, "service", "stop", unit) == ["update unit probe.service"]
    changed(operator, "service", "stop", unit, "--yes")
    assert _is(target, "is-active") == "inactive"


def test_enable_and_disable(operator: Operator, target: Target, unit: str) -> None:
    assert changed(operator, "service", "enable", unit, "--yes") == ["update unit probe.service"]
    assert _is(target, "is-enabled") == "enabled"
    target.run("systemctl", "disable", unit)
    assert planned(operator, "service", "enable", unit) == ["update unit probe.service"]
    changed(operator, "service", "enable", unit, "--yes")
    assert _is(target, "is-enabled") == "enabled"

    assert changed(operator, "service", "disable", unit, "--yes") == ["update unit probe.service"]
    assert _is(target, "is-enabled") == "disabled"
    target.run("systemctl", "enable", unit)
    assert planned(operator, "service", "disable", unit) == ["update unit probe.service"]
    changed(operator, "service", "disable", unit, "--yes")
    assert _is(target, "is-enabled") == "disabled"


def test_restart_and_reload(operator: Operator, target: Target, unit: str) -> None:
    target.run("systemctl", "start", unit)
    before = _pid(target)
    assert planned(operator, "service", "restart", unit) == ["run unit probe.service"]
    assert _pid(target) == before
    done = run(operator, "service", "restart", unit, "--yes")
    assert (done["outcome"], told(done)) == ("done", ["run unit probe.service"])
    restarted = _pid(target)
    assert restarted not in ("0", before)

    assert run(operator, "service", "reload", unit, "--yes")["outcome"] == "done"
    assert _pid(target) == restarted
    assert target.run("cat", "/run/probe.reloads").stdout == "again\n"
    target.run("rm", "/run/probe.reloads")


def test_status_and_list(operator: Operator, target: Target, unit: str) -> None:
    target.run("systemctl", "start", unit)
    status = run(operator, "service", "status", unit)["data"]
    assert (status["unit"], status["active"], str(status["pid"])) == ("probe.service", "active", _pid(target))
    rows = run(operator, "service", "list")["data"]["services"]
    assert [row["active"] for row in rows if row["unit"] == "probe.service"] == ["active"]


#: Stopping SSH is a safe change: test_safe.py.
@pytest.mark.parametrize(
    ("lifeline", "verb"),
    [
        ("ssh", "restart"),
        *((unit, verb) for unit in ("dbus", "systemd-logind") for verb in ("stop", "restart", "disable")),
    ],
)
def test_what_keeps_the_server_reachable_stays(operator: Operator, target: Target, verb: str, lifeline: str) -> None:
    assert "keeps this server reachable" in (said := refused(operator, "service", verb, lifeline, "--yes")) or (
        "part of the system" in said
    )
    assert target.run("systemctl", "is-active", lifeline).stdout.strip() == "active"


def test_a_unit_that_is_not_there(operator: Operator) -> None:
    assert "no unit" in refused(operator, "service", "restart", "no-such", "--yes")


def test_logs(operator: Operator, target: Target, unit: str) -> None:
    target.run("systemctl", "start", unit)
    target.run("systemctl", "stop", unit)
    last = target.run("journalctl", "--quiet", "--lines=1", "--output=cat", "--unit=probe").stdout
    assert operator.run("service", "logs", unit, "--lines", "1", "--on", "web1").stdout.endswith(last)


def test_logs_follow_until_interrupted(operator: Operator, target: Target, unit: str) -> None:
    target.run("systemctl", "start", unit)
    following = operator.start("service", "logs", unit, "--lines", "1", "--follow", "--on", "web1")
    assert following.stdout
    try:
        assert "tarted" in following.stdout.readline()
        target.run("systemctl", "stop", unit)
        while "Stopped" not in (line := following.stdout.readline()):
            assert line
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=20) == 130
    finally:
        following.kill()
        following.communicate()
    eventually(
        lambda: target.run("pgrep", "-f", "journalctl.*--follow|libexec/serverflow", check=False).returncode == 1,
        "nothing of it is left on the server",
    )
