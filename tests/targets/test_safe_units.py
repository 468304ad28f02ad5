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

#: Enabled by hand or for another target, linked from elsewhere, with Also=, with a dependent, with a rival that starts
#: and stops others along the way, and one that cannot start a second time.
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
unit rival.service 'Conflicts=base.service\nWants=pulled.service' ''
unit pulled.service 'BindsTo=pulled.socket\nConflicts=third.service' ''
printf '[Socket]\nListenStream=/run/pulled\n' >pulled.socket
unit third.service '' ''
unit wanting.service 'Wants=idle.service' ''
unit idle.service '' ''
touch /run/ok
systemctl daemon-reload
systemctl -q enable /opt/linked.service also1 base rare
systemctl -q disable also2
systemctl -q add-wants sysinit.target elsewhere.service
systemctl start base dependent part dies third wanting
systemctl stop idle
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("sh", "-c", STAGE)
        yield found


@pytest.fixture(autouse=True)
def nothing_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"victim", "carried"} & set(request.fixturenames):
        reach_deadline(request.getfixturevalue(name).target)


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
        ("start", "rival"),
        ("start", "pulled"),
        ("stop", "wanting"),
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


# --- what carries the connection -------------------------------------------------------------------------------------

#: What SSH needs, its rival behind another unit, and a firewall with ours upon it.
CARRIES = r"""
set -e
cd /etc/systemd/system
unit() { printf "[Unit]\n$2\n[Service]\nExecStart=sleep infinity\n" >$1; }
unit under.service ''
unit rival-of-ssh.service 'Conflicts=under.service'
unit wants-rival.service 'Wants=rival-of-ssh.service'
unit nftables.service ''
unit serverflow-firewall.service 'PartOf=nftables.service'
mkdir -p ssh.service.d
printf '[Unit]\nRequires=under.service\n' >ssh.service.d/requires.conf
systemctl daemon-reload
systemctl start under nftables serverflow-firewall
"""


@pytest.fixture(scope="module")
def carried(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """The oldest release, whose ssh.socket and ssh.service conflict."""
    with fresh_victim(fleet, tmp_path_factory.mktemp("carried"), "debian11") as found:
        found.target.run("sh", "-c", CARRIES)
        yield found


def running(target: Target) -> list[str]:
    asked = ("ssh.service", "under.service", "nftables.service", "serverflow-firewall.service")
    return [name for name in asked if is_active(target, name)]


ALL_RUN = ["ssh.service", "under.service", "nftables.service", "serverflow-firewall.service"]


@pytest.mark.parametrize("verb", ["start", "enable"])
@pytest.mark.parametrize("seconds", [0, 600])
def test_ssh_does_not_change_over_to_its_socket(carried: Victim, verb: str, seconds: int) -> None:
    before = capture(carried.target)
    answer = carried.client.ask(f"service.{verb}", {"unit": "ssh.socket"}, confirm_s=seconds)
    why = "nothing proves" if seconds else "could lock everyone out"
    assert why in answer.body["message"], answer.body
    assert (waiting(carried.target), difference(before, capture(carried.target))) == ("", [])


@pytest.mark.parametrize(
    ("verb", "unit", "why"),
    [
        ("stop", "under.service", "with under.service ssh.service would stop"),
        ("restart", "under.service", "with under.service ssh.service would stop"),
        ("start", "rival-of-ssh.service", "ssh.service would stop"),
        ("start", "wants-rival.service", "with wants-rival.service ssh.service"),
        ("enable", "NetworkManager.service", "could lock everyone out"),
        ("stop", "nftables.service", "could lock everyone out"),
        ("disable", "nftables.service", "could lock everyone out"),
        ("start", "serverflow-firewall.service", "could lock everyone out"),
        ("reload", "nftables.service", "by hand, over a console"),
    ],
)
def test_what_takes_the_way_in_along_needs_a_countdown(carried: Victim, verb: str, unit: str, why: str) -> None:
    before = capture(carried.target)
    answer = carried.client.ask(f"service.{verb}", {"unit": unit})
    assert answer.verdict != "done" and why in answer.body["message"], answer.body
    assert (running(carried.target), difference(before, capture(carried.target))) == (ALL_RUN, [])


@pytest.mark.parametrize(("verb", "unit"), [("stop", "under"), ("start", "rival-of-ssh"), ("start", "wants-rival")])
def test_with_one_the_way_in_comes_back(carried: Victim, verb: str, unit: str) -> None:
    target = carried.target
    before = capture(target)
    op = begin(carried.client, f"service.{verb}", {"unit": f"{unit}.service"})
    assert "ssh.service" not in running(target)
    reach_deadline(target)
    assert (running(target), difference(before, capture(target))) == (ALL_RUN, [])
    assert way_back(target, op)["data"]["problems"] == []


@pytest.mark.parametrize("verb", ["start", "stop", "enable"])
def test_the_firewalls_of_others_are_no_safe_change(carried: Victim, verb: str) -> None:
    answer = carried.client.ask(f"service.{verb}", {"unit": "nftables.service"}, confirm_s=600)
    assert answer.body["outcome"] == "failed" and "cannot be undone" in answer.body["message"], answer.body
    assert (running(carried.target), waiting(carried.target)) == (ALL_RUN, "")


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
