"""Units in a safe change on real servers: their links and dependents come back, and a restart in between undoes it too,
before anything has started.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .operator import eventually
from .pending import begin, reach_deadline, until_over, waiting, way_back
from .state import capture, difference
from .target import Fleet, Target
from .victim import Victim, fresh_victim

UNITS = "/etc/systemd/system"
BOOT = "serverflow-rollback.service"

#: Enabled by hand or for another target, linked from elsewhere, with Also=, with a dependent, and one that cannot start
#: a second time.
STAGE = r"""
set -e
cd /etc/systemd/system
unit() { printf "[Unit]\n$2\n[Service]\nExecStart=sleep infinity\n$3\n" >$1; }
wanted='[Install]\nWantedBy=multi-user.target'
unit by-hand.service '' ''
ln -s ../by-hand.service multi-user.target.wants/by-hand.service
unit base.service '' "$wanted"
unit dependent.service 'Requires=base.service\nAfter=base.service' ''
unit part.service 'PartOf=base.service' ''
unit also1.service '' "$wanted\nAlso=also2.service"
unit also2.service '' "$wanted"
unit /opt/linked.service '' "$wanted"
unit elsewhere.service '' "$wanted"
unit rare.service '' '[Install]\nWantedBy=rare.target'
unit late.service 'After=ssh.service' "$wanted"
unit dies.service '' "$wanted"
printf '[Service]\nExecStart=sh -c "test -e /run/ok && exec sleep infinity"\n' >dies.service
touch /run/ok
systemctl daemon-reload
systemctl -q enable /opt/linked.service also1 base rare
systemctl -q disable also2
systemctl -q add-wants sysinit.target elsewhere.service
systemctl start base dependent part dies
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("sh", "-c", STAGE)
        yield found


@pytest.fixture(autouse=True)
def nothing_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "victim" in request.fixturenames:
        reach_deadline(request.getfixturevalue("victim").target)


@pytest.mark.parametrize(
    ("action", "unit"),
    [
        ("disable", "by-hand"),
        ("disable", "linked"),
        ("disable", "also1"),
        ("enable", "also2"),
        ("disable", "elsewhere"),
        ("disable", "rare"),
        ("enable", "late"),
        ("stop", "base"),
        ("disable", "base"),
    ],
)
def test_all_of_it_comes_back(victim: Victim, action: str, unit: str) -> None:
    """States, links, the folders that they are in, and whoever stops with it."""
    target = victim.target
    before = capture(target)
    answer = victim.client.ask(f"service.{action}", {"unit": f"{unit}.service"}, confirm_s=600)
    assert answer.verdict == "pending-confirm", answer.body
    assert difference(before, capture(target)), "there is something to put back"
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    assert way_back(target, answer.body["op_id"])["data"]["problems"] == []


def test_what_does_not_stay_up_is_told(victim: Victim) -> None:
    op = begin(victim.client, "service.stop", {"unit": "dies.service"})
    victim.target.run("rm", "/run/ok")
    reach_deadline(victim.target)
    assert way_back(victim.target, op)["data"]["problems"] == ["dies.service was active, and is failed now"]


def test_the_host_name_cannot_be_put_back(victim: Victim) -> None:
    answer = victim.client.ask("system.hostname", {"name": "other"}, confirm_s=600)
    assert answer.body["code"] == "unsupported" and "cannot be undone" in answer.body["message"], answer.body
    assert waiting(victim.target) == ""


# --- another bundle --------------------------------------------------------------------------------------------------


def test_no_bundle_comes_in_while_a_change_waits(victim: Victim) -> None:
    op = begin(victim.client, "service.enable", {"unit": "late.service"})
    version, files = victim.bundle_version(), victim.bundle_files()
    answer = victim.push_bundle(files)
    assert (answer.verdict, op in answer.body["message"]) == ("pending-change", True), answer.body
    assert victim.bundle_version() == version
    reach_deadline(victim.target)
    assert victim.push_bundle(files).verdict == "done"


def test_a_bundle_brings_its_boot_unit(victim: Victim) -> None:
    """Over the one of a bundle before it, which was enabled for another target."""
    target = victim.target
    right = target.run("cat", f"{UNITS}/{BOOT}").stdout
    older = right.replace("WantedBy=sysinit.target", "WantedBy=multi-user.target").replace(
        "DefaultDependencies=no\n", ""
    )
    target.run("sh", "-c", f"cat >{UNITS}/{BOOT}", input=older)
    target.run("systemctl", "-q", "reenable", BOOT)
    assert wanted_by(target) == ["multi-user.target.wants"]
    assert victim.push_bundle(victim.bundle_files()).verdict == "done"
    assert (target.run("cat", f"{UNITS}/{BOOT}").stdout, wanted_by(target)) == (right, ["sysinit.target.wants"])
    assert target.run("systemctl", "show", "-p", "NeedDaemonReload", "--value", BOOT).stdout == "no\n"
    # And whoever takes it away does not leave the next change without it.
    target.run("sh", "-c", f"systemctl -q disable {BOOT}; rm {UNITS}/{BOOT}")
    begin(victim.client, "service.enable", {"unit": "late.service"})
    assert (target.run("cat", f"{UNITS}/{BOOT}").stdout, wanted_by(target)) == (right, ["sysinit.target.wants"])


def wanted_by(target: Target) -> list[str]:
    found = target.run("sh", "-c", f"cd {UNITS} && ls -d *.wants/{BOOT}", check=False).stdout.split()
    return [Path(path).parent.name for path in found]


# --- a restart -------------------------------------------------------------------------------------------------------

#: The network as cloud-init with ifupdown orders it: up before sysinit.target is reached.
CLOUD = r"""
set -e
cd /etc/systemd/system
once() {
  printf "[Unit]\nDefaultDependencies=no\n$2\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=$3\n" >$1
  printf '[Install]\nWantedBy=sysinit.target\n' >>$1
}
once networking.service 'After=local-fs.target network-pre.target\nBefore=network.target' true
once cloud-init.service 'After=networking.service\nBefore=sysinit.target\nWants=network-pre.target' true
printf 'ls /etc/systemd/system/multi-user.target.wants >/var/seen\n' >/opt/look
once early.service 'After=systemd-sysctl.service network-pre.target\nBefore=sysinit.target' 'sh /opt/look'
printf '[Unit]\nAfter=ssh.service\n[Service]\nExecStart=sleep infinity\n' >late.service
printf '[Install]\nWantedBy=multi-user.target\n' >>late.service
printf '[Service]\nExecStart=sleep infinity\n' >runs.service
systemctl daemon-reload
systemctl -q enable --now networking cloud-init early
systemctl start runs
"""


@pytest.mark.parametrize("release", ["debian11", "debian12", "debian13"])
def test_a_restart_undoes_it_before_anything_starts(fleet: Fleet, tmp_path: Path, release: str) -> None:
    """What was enabled is not started, and what was stopped is, also where only a hand had started it."""
    with fresh_victim(fleet, tmp_path, release) as victim:
        target = victim.target
        target.run("sh", "-c", CLOUD)
        assert cycles(target) == []
        before = capture(target)
        op = begin(victim.client, "service.enable", {"unit": "late.service"})
        victim.client.close()
        target.power_cut()
        assert waiting(target) == "", "it is over before the boot is"
        assert way_back(target, op)["data"]["problems"] == []
        # What runs after a restart is no matter of the change.
        told = [line for line in difference(before, capture(target)) if "active: " not in line]
        assert told == []
        assert "late.service" not in target.run("cat", "/var/seen").stdout
        assert target.run("systemctl", "is-active", "late", check=False).stdout == "inactive\n"

        # What ran, runs.
        target.run("systemctl", "start", "runs")
        op = begin(victim.client, "service.stop", {"unit": "runs.service"})
        victim.client.close()
        target.power_cut()
        until_over(target, op)
        eventually(lambda: is_active(target, "runs"), "it runs again")
        assert way_back(target, op)["data"]["problems"] == []


def is_active(target: Target, unit: str) -> bool:
    return target.run("systemctl", "is-active", unit, check=False).stdout == "active\n"


def cycles(target: Target) -> list[str]:
    said: Any = target.run("systemd-analyze", "verify", "--no-pager", "default.target", check=False)
    return [line for line in said.stderr.splitlines() if "cycle" in line]
