"""The area cron on a real server: what `sf cron` does is seen with cat(1), ps(1) and systemctl(1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import pending
from .areas import changed, refused, run, told
from .operator import Operator, elsewhere, new_operator, pull
from .shop import CRONTAB, EACH_MINUTE, JOBS, NEVER, Shop, alerts, ended, look, nothing_runs, open_shop, script
from .target import Fleet, Target

_REPORT = "cron", "add", "report", "--schedule", "15 3 * * *", "--app", "shop", "--yes"
_COMMAND = "--", "bin/report", "--all", "a b", "$HOME", "50%"
_RESTART = "cron", "add", "again", "--schedule", NEVER, "--action", "service.restart", "--yes"

#: Says each of its words, who runs it, and where.
_SCRIPT = """#!/bin/sh
for word; do echo "<$word>"; done
id -un; pwd; echo "$SF_JOB $TZ"; date >> ran
"""


@pytest.fixture(scope="module")
def shop(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(fleet, tmp_path_factory.mktemp("cron")) as opened:
        opened.script("report", _SCRIPT)
        yield opened


@pytest.fixture
def report(shop: Shop) -> Iterator[str]:
    """A job that is due at 03:15 of the fleet's zone."""
    run(shop.operator, *_REPORT, *_COMMAND)
    yield "report"
    shop.operator.run("cron", "remove", "report", "--yes", check=False)


def _show(shop: Shop, job: str) -> dict[str, Any]:
    found: dict[str, Any] = run(shop.operator, "cron", "show", job)["data"]
    return found


def _cat(target: Target, path: str) -> str:
    return target.run("cat", path, check=False).stdout


def _stat(target: Target, path: str) -> str:
    return target.run("stat", "-c", "%U:%G %a", path, check=False).stdout.strip()


def _lines(target: Target) -> list[str]:
    """What cron is to run, without comments and variables."""
    return [line for line in _cat(target, CRONTAB).splitlines() if " root " in line and not line.startswith("#")]


# --- add, edit, remove ------------------------------------------------------------------------------------------------


def test_add(shop: Shop) -> None:
    target = shop.target
    assert changed(shop.operator, *_REPORT, *_COMMAND) == [
        f"create file {JOBS}/report.json",
        f"create file {CRONTAB}",
        "create unit-file serverflow-watch.timer",
        "update unit serverflow-watch.timer",
    ]
    assert _lines(target) == ["15 3 * * * root /usr/local/libexec/serverflow/runner fire report"]
    # Cron reads a file of /etc/cron.d only when it is root's, and nobody else can write it (cron(8)).
    assert (_stat(target, CRONTAB), _stat(target, f"{JOBS}/report.json")) == ("root:root 600", "root:root 600")
    assert json.loads(_cat(target, f"{JOBS}/report.json"))["command"] == list(_COMMAND[1:])
    assert target.run("systemctl", "is-active", "serverflow-watch.timer").stdout == "active\n"
    assert shop.operator.run("plan", "--check", "--only", "cron").returncode == 0
    assert shop.by_hand("report")["outcome"] == "ok"


def test_run_logs_history(shop: Shop, report: str) -> None:
    record = shop.by_hand(report)
    assert (record["outcome"], record["exit"], record["trigger"], record["by"]) == ("ok", 0, "manual", "ana")
    zone = _show(shop, report)["timezone"]
    # Each word as it is: there is no shell, and systemd puts nothing in.
    assert record["output"]["head"].splitlines() == [
        "<--all>",
        "<a b>",
        "<$HOME>",
        "<50%>",
        "shop",
        "/srv/shop",
        f"report {zone}",
    ]
    assert _stat(shop.target, "/srv/shop/ran") == "shop:shop 640"

    shop.script("report", "#!/bin/sh\necho broken; exit 3\n")
    failed = shop.by_hand(report, exit=6)
    shop.script("report", _SCRIPT)
    assert (failed["outcome"], failed["exit"]) == ("failed", 3)
    runs = run(shop.operator, "cron", "history", report)["data"]["runs"]
    assert [each["run"] for each in runs[:2]] == [failed["run"], record["run"]]
    assert [each["run"] for each in run(shop.operator, "cron", "history", report, "--failed")["data"]["runs"]] == [
        failed["run"]
    ]
    assert run(shop.operator, "cron", "logs", report)["data"]["head"] == "broken\n"
    assert (
        run(shop.operator, "cron", "logs", report, "--run", record["run"])["data"]["head"] == record["output"]["head"]
    )
    assert _show(shop, report)["last" if "last" in _show(shop, report) else "runs"]
    assert f"cron.failed/{report}" in alerts(shop.target)
    shop.by_hand(report)
    assert f"cron.failed/{report}" not in alerts(shop.target)


def test_edit_disable_enable(shop: Shop, report: str) -> None:
    edit = "cron", "edit", report, "--schedule", "30 3 * * mon", "--timezone", "Asia/Kathmandu", "--yes"
    done = shop.operator.json(*edit)["servers"][0]
    assert told(done) == [f"update file {JOBS}/report.json", f"update file {CRONTAB}"]
    assert shop.operator.json(*edit)["servers"][0]["outcome"] == "unchanged"
    # At 45 minutes past the hour where the server is: its cron knows no other zone.
    assert _lines(shop.target) == ["45 * * * * root /usr/local/libexec/serverflow/runner fire report"]
    listed = run(shop.operator, "cron", "list")["data"]["jobs"]
    assert [(job["name"], job["schedule"], job["enabled"]) for job in listed] == [(report, "30 3 * * mon", True)]
    times = shop.operator.json("cron", "next", report, "--count", "3")["data"]["runs"]
    assert [each["at"][11:] for each in times] == ["21:45:00Z"] * 3
    assert times[0]["times"]["Asia/Kathmandu"].endswith("03:30 +05:45")

    for word, lines in ("disable", 0), ("enable", 1):
        done = shop.operator.json("cron", word, report, "--yes")["servers"][0]
        assert told(done) == [f"update file {JOBS}/report.json", f"update file {CRONTAB}"]
        assert shop.operator.json("cron", word, report, "--yes")["servers"][0]["outcome"] == "unchanged"
        assert len(_lines(shop.target)) == lines
    assert "-".join(_show(shop, report)["command"]) == "-".join(_COMMAND[1:])


def test_next_tells_of_changes_of_clocks(shop: Shop, report: str) -> None:
    edit = "cron", "edit", report, "--schedule", "30 2 * * *", "--timezone", "Europe/Berlin", "--yes"
    shop.operator.run(*edit)
    notes = "\n".join(shop.operator.json("cron", "next", report, "--count", "400")["notes"])
    assert "clocks go from 02:00 to 03:00; 02:30 does not exist" in notes
    assert "clocks go from 03:00 to 02:00" in notes


def test_remove(shop: Shop, report: str) -> None:
    shop.by_hand(report)
    done = shop.operator.json("cron", "remove", report, "--yes")["servers"][0]
    assert told(done) == [
        f"delete file {CRONTAB}",
        "update unit serverflow-watch.timer",
        "delete unit-file serverflow-watch.timer",
        f"delete file {JOBS}/report.json",
    ]
    assert run(shop.operator, "cron", "remove", report, "--yes")["outcome"] == "unchanged"
    assert shop.target.run("ls", JOBS).stdout == ""
    assert "report" not in (shop.operator.fleet / "fleet.toml").read_text()
    # What it did is remembered.
    assert run(shop.operator, "cron", "history", report)["data"]["runs"][0]["outcome"] == "ok"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("bin/report", "|", "sort"), "operator of the shell"),
        (("bin/report", ">", "out"), "operator of the shell"),
        (("bin/report", "2>&1"), "operator of the shell"),
        (("cd", "/srv"), "a word of the shell"),
        (("A=1", "bin/report"), "sets a variable"),
    ],
)
def test_what_only_a_shell_would_do_is_refused(shop: Shop, words: tuple[str, ...], reason: str) -> None:
    add = "cron", "add", "bad", "--on", "web1", "--schedule", NEVER, "--app", "shop", "--yes", "--", *words
    done = shop.operator.run(*add, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "bad" not in (shop.operator.fleet / "fleet.toml").read_text()
    assert _stat(shop.target, f"{JOBS}/bad.json") == ""


def test_no_job_without_its_app(shop: Shop) -> None:
    add = "cron", "add", "bad", "--on", "web1", "--schedule", NEVER, "--app", "blog", "--yes", "--", "bin/report"
    assert "fleet.toml has no app blog" in shop.operator.run(*add, check=False).stderr
    assert _stat(shop.target, f"{JOBS}/bad.json") == ""


# --- damage -----------------------------------------------------------------------------------------------------------


def test_damage_is_drift_does_not_run_and_is_repaired(shop: Shop, report: str) -> None:
    target, path = shop.target, f"{JOBS}/report.json"
    target.run("sed", "-i", 's/"--all"/"--evil"/', path)
    target.run("sed", "-i", "s/^15 3/59 4/", CRONTAB)
    assert shop.operator.run("plan", "--check", "--only", "cron", check=False).returncode == 11
    before = _cat(target, "/srv/shop/ran")
    assert "changed by hand" in refused(shop.operator, "cron", "run", report, "--yes")
    assert _cat(target, "/srv/shop/ran") == before
    look(target)
    assert {f"cron.disabled/{report}", f"cron.changed/{CRONTAB}"} <= alerts(target)
    assert f"cron.changed/{report}" not in alerts(target)
    stored = json.loads(_cat(target, path))
    assert (stored["enabled"], "changed by hand" in stored["disabled_because"]) == (False, True)
    assert "--evil" in target.run("sh", "-c", "cat /var/lib/serverflow/kept/*-report.json").stdout

    assert told(run(shop.operator, *_REPORT, "--plan", *_COMMAND)) == [f"update file {path}", f"update file {CRONTAB}"]
    shop.operator.run("apply", "--only", "cron", "--yes")
    assert "<--all>" in shop.wrote(report)
    look(target)
    assert not {f"cron.disabled/{report}", f"cron.changed/{CRONTAB}"} & alerts(target)
    assert shop.operator.run("plan", "--check", "--only", "cron").returncode == 0


def test_a_job_that_somebody_wrote_by_hand_does_not_run(shop: Shop, report: str) -> None:
    target = shop.target
    target.run("sh", "-c", f"sed s/report/other/g {JOBS}/report.json > {JOBS}/other.json; chmod 600 {JOBS}/other.json")
    try:
        assert "changed by hand" in refused(shop.operator, "cron", "run", "other", "--yes")
        # As cron would, whatever its line says.
        target.run("/usr/local/libexec/serverflow/runner", "cron-run", "other", "01" + "A" * 24, "1", "schedule")
        (record,) = ended(target, "other")
        assert (record["outcome"], "changed by hand" in record["message"]) == ("refused", True)
        assert "cron.disabled/other" in alerts(target)
    finally:
        target.run("rm", "-f", f"{JOBS}/other.json")


def test_the_crontab_follows_the_time_zone_of_the_server(shop: Shop, report: str) -> None:
    """Also when that was changed by hand: cron would go by the wrong clock."""
    zone = shop.target.run("readlink", "/etc/localtime").stdout.strip().rpartition("zoneinfo/")[2]
    shop.target.run("timedatectl", "set-timezone", "Asia/Kathmandu")
    try:
        shop.target.run("systemctl", "start", "serverflow-watch.service")
        assert _lines(shop.target) == ["0 * * * * root /usr/local/libexec/serverflow/runner fire report"]
        assert not alerts(shop.target) & {f"cron.changed/{CRONTAB}"}
    finally:
        shop.target.run("timedatectl", "set-timezone", zone)
        shop.target.run("systemctl", "start", "serverflow-watch.service")
    assert _lines(shop.target) == ["15 3 * * * root /usr/local/libexec/serverflow/runner fire report"]


# --- an action --------------------------------------------------------------------------------------------------------


def _cron(target: Target) -> str:
    return target.run("systemctl", "show", "--property=MainPID", "--value", "cron").stdout.strip()


@pytest.fixture
def again(shop: Shop) -> Iterator[str]:
    """A job that restarts cron."""
    run(shop.operator, *_RESTART, "unit=cron")
    yield "again"
    shop.operator.run("cron", "remove", "again", "--yes", check=False)


def test_an_action_leaves_a_receipt_that_names_who_installed_it(shop: Shop, again: str) -> None:
    before = _cron(shop.target)
    installed = _show(shop, again)["op"]
    record = shop.by_hand(again)
    assert (record["outcome"], _cron(shop.target) != before) == ("ok", True)
    (receipt,) = (body for body in pending.receipts(shop.target) if body["op_id"] == record["op"])
    assert (receipt["action"], receipt["trigger"], receipt["outcome"]) == ("service.restart", installed, "done")
    (first,) = (body for body in pending.receipts(shop.target) if body["op_id"] == installed)
    assert (first["action"], first["actor"]["name"]) == ("cron.add", "ana")
    shop.operator.run("audit", "verify", "--against", "all")


@pytest.mark.parametrize(
    ("action", "params", "reason"),
    [
        ("cron.remove", ("name=again",), "it is done by people"),
        ("app.remove", ("name=shop",), "cannot be scheduled"),
        ("service.restart", ("unit=../x",), "unit"),
        ("service.restart", (), "unit"),
        ("service.status", ("unit=cron",), "cannot be scheduled"),
    ],
)
def test_not_every_action_can_be_scheduled(shop: Shop, action: str, params: tuple[str, ...], reason: str) -> None:
    add = "cron", "add", "bad", "--on", "web1", "--schedule", NEVER, "--action", action, "--yes", *params
    done = shop.operator.run(*add, check=False)
    assert done.returncode == 2, done
    assert reason in done.stderr
    assert "bad" not in (shop.operator.fleet / "fleet.toml").read_text()
    assert _stat(shop.target, f"{JOBS}/bad.json") == ""


# --- who may ----------------------------------------------------------------------------------------------------------


def _deployed(ana: Operator, folder: Path, *options: str) -> Operator:
    """A CI job with these grants on web1."""
    printed = ana.run("key", "deploy", "ci", "--on", "web1", *options, "--yes").stdout
    return elsewhere(ana, folder / "ci", **dict(line.split("=", 1) for line in printed.splitlines()))


@pytest.fixture
def _no_ci(shop: Shop) -> Iterator[None]:
    yield
    shop.operator.run("key", "revoke", "ci", "--yes", check=False)
    for job in "ci-report", "ci-again", "report":
        shop.operator.run("cron", "remove", job, "--on", "web1", "--yes", check=False)


def _denied(operator: Operator, *argv: str) -> tuple[int, str]:
    """Exit code, and the code of the error."""
    done = operator.run("--json", *argv, "--on", "web1", "--yes", check=False)
    envelope = json.loads(done.stdout)
    errors = [envelope["error"], *(server["error"] for server in envelope["servers"])]
    return done.returncode, next((error["code"] for error in errors if error), "")


@pytest.mark.usefixtures("_no_ci")
def test_a_job_takes_the_grant_for_what_it_does(shop: Shop, tmp_path: Path) -> None:
    ci = _deployed(shop.operator, tmp_path, "--allow", "cron.*", "--allow", "system.*")
    schedule = "--schedule", NEVER
    action = "cron", "add", "ci-again", *schedule, "--action", "service.restart", "unit=cron"
    assert _denied(ci, *action) == (4, "not-granted")
    # A glob does not mean it: its name has to be given.
    command = "cron", "add", "ci-report", *schedule, "--app", "shop"
    done = ci.run("--json", *command, "--on", "web1", "--yes", "--", "bin/report", check=False)
    assert done.returncode == 4, done.stdout
    assert shop.target.run("ls", JOBS, check=False).stdout == ""


@pytest.mark.usefixtures("_no_ci")
@pytest.mark.parametrize("end", [("key", "revoke", "ci"), ("cron", "remove", "ci-report", "--on", "web1")])
def test_a_run_ends_with_what_allows_it(shop: Shop, tmp_path: Path, end: tuple[str, ...]) -> None:
    ci = _deployed(shop.operator, tmp_path, "--allow", "cron.command", "--allow", "cron.run")
    add = "cron", "add", "ci-report", "--on", "web1", "--schedule", NEVER, "--app", "shop", "--yes"
    ci.run(*add, "--", "sleep", "1000")
    pull(shop.operator, ci)
    started = run(shop.operator, "cron", "run", "ci-report", "--no-wait", "--yes")["data"]["run"]
    runs = len(ended(shop.target, "ci-report", 0))
    shop.operator.run(*end, "--yes")
    record = ended(shop.target, "ci-report", runs + 1, 30)[-1]
    assert (record["run"], record["outcome"]) == (started, "killed")
    assert ("not in the trust file" if end[0] == "key" else "was removed") in record["message"]
    nothing_runs(shop.target)


@pytest.mark.usefixtures("_no_ci")
def test_revocation_disables_what_the_key_has_installed(shop: Shop, tmp_path: Path) -> None:
    grants = "--allow", "cron.command", "--allow", "cron.add", "--allow", "service.restart"
    ci = _deployed(shop.operator, tmp_path, *grants)
    ci.run(
        "cron", "add", "ci-report", "--on", "web1", "--schedule", EACH_MINUTE, "--app", "shop", "--yes", "--", "true"
    )
    ci.run(
        "cron",
        "add",
        "ci-again",
        "--on",
        "web1",
        "--schedule",
        NEVER,
        "--action",
        "service.restart",
        "--yes",
        "unit=cron",
    )
    run(shop.operator, *_REPORT, *_COMMAND)
    assert len(_lines(shop.target)) == 3
    pull(shop.operator, ci)

    shop.operator.run("key", "revoke", "ci", "--yes")
    assert [line.rpartition(" ")[2] for line in _lines(shop.target)] == ["report"]
    for job in "ci-report", "ci-again":
        stored = json.loads(_cat(shop.target, f"{JOBS}/{job}.json"))
        assert (stored["enabled"], "ci" in stored["disabled_because"]) == (False, True)
        assert f"cron.disabled/{job}" in alerts(shop.target)
        assert "not in the trust file" in refused(shop.operator, "cron", "run", job, "--yes")
    assert shop.operator.run("plan", "--check", "--only", "cron", check=False).returncode == 11

    # Somebody else may stand in for them.
    shop.operator.run("apply", "--only", "cron", "--yes")
    assert shop.by_hand("ci-report")["outcome"] == "ok"
    assert _show(shop, "ci-report")["installed_by"] == "ana"
    assert "cron.disabled/ci-report" not in alerts(shop.target)


# --- what a job can do ------------------------------------------------------------------------------------------------

#: Each line is tried by itself; what it prints after `no:` is what it could not do.
_ATTEMPTS = """#!/bin/sh
try() { if sh -c "$1" >/dev/null 2>&1; then echo "yes: $1"; else echo "no: $1"; fi; }
try 'touch /srv/shop/mine'
try 'touch /tmp/mine'
try 'cat /etc/hostname'
try 'touch /etc/x'
try 'touch /srv/blog/x'
try 'ls /srv/blog'
try 'touch /home/shop/x'
try 'ls /var/lib/serverflow/cron'
try 'ls /etc/serverflow/notify'
try 'ls /etc/serverflow/cron'
try 'cat /etc/cron.d/serverflow'
try 'cat /etc/shadow'
try 'cat /root/secret'
try 'sudo -n true'
try '/srv/shop/suid -p -c "test $(id -u) = 0"'
try 'mount -t tmpfs none /tmp'
try 'unshare -r true'
try 'kill -0 1'
try 'systemctl restart cron'
try 'systemd-run --wait true'
try 'ls /run/dbus/system_bus_socket'
try 'crontab -l'
try 'echo "* * * * * touch /srv/shop/cronned" | crontab -'
try 'dmesg'
try 'chmod u+s /srv/shop/bin/report'
"""


def test_a_job_can_do_what_the_app_can_and_no_more(shop: Shop) -> None:
    target = shop.target
    shop.operator.run("app", "create", "blog", "--on", "web1", "--yes")
    target.run("sh", "-c", "mkdir -p /etc/serverflow/notify; chmod 755 /etc/serverflow/notify; echo x > /root/secret")
    # One that the app could run as root, were it not for NoNewPrivileges=; and a group that might help it.
    target.run("sh", "-c", "cp /bin/bash /srv/shop/suid; chmod 4755 /srv/shop/suid; chmod 755 /srv/blog")
    target.run("sh", "-c", "echo 'shop ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/shop")
    script(target, "attempts", _ATTEMPTS)
    target.run("sh", "-c", "chown root:root /srv/shop/suid; chmod 4755 /srv/shop/suid")
    shop.add("attempts", "bin/attempts")
    try:
        said = shop.wrote("attempts").splitlines()
        could = [line.partition(": ")[2] for line in said if line.startswith("yes")]
        assert len(said) == _ATTEMPTS.count("\ntry ")
        assert could == ["touch /srv/shop/mine", "touch /tmp/mine", "cat /etc/hostname", "ls /srv/blog"]
        assert _stat(target, "/tmp/mine") == ""
        assert "no_new_privs" not in said
    finally:
        target.run("rm", "-rf", "/etc/sudoers.d/shop", "/srv/shop/suid", "/etc/serverflow/notify", "/root/secret")
        shop.operator.run("cron", "remove", "attempts", "--yes")
        shop.operator.run("app", "remove", "blog", "--on", "web1", "--purge-data", "--confirm", "blog")


# --- import -----------------------------------------------------------------------------------------------------------

_CRONTAB = """\
# what people have
MAILTO=ops@example.com
15 3 * * * bin/report --all 'a b'
@daily /srv/shop/bin/report
*/5 * * * * cd /srv/shop && bin/report
0 4 * * * bin/report > /tmp/log 2>&1
0 5 * * * bin/report `date +\\%F`
@reboot bin/report
"""
_ROOT = """\
0 1 * * 0 root systemctl restart cron
0 2 * * * root /usr/bin/backup
0 2 * * * nobody true
61 * * * * root true
"""


def test_an_existing_crontab_is_imported_with_the_fate_of_each_line(shop: Shop) -> None:
    target, fleet = shop.target, shop.operator.fleet / "fleet.toml"
    target.run("crontab", "-u", "shop", "-", input=_CRONTAB)
    target.run("sh", "-c", "cat > /etc/cron.d/legacy", input=_ROOT)
    before = fleet.read_text()
    try:
        lines = shop.operator.json("cron", "import", "--on", "web1", "--plan")["data"]["lines"]
        assert fleet.read_text() == before
        fates = {(each["file"], each["line"]): (each["fate"], each["why"]) for each in lines}
        mine, legacy = "/var/spool/cron/crontabs/shop", "/etc/cron.d/legacy"
        own = [fates[key] for key in sorted(fates) if key[0] == mine]
        assert [fate for fate, _ in own] == ["import", "import", "stays", "stays", "stays", "stays"]
        for (_, why), reason in zip(own[2:], ("&", ">", "backtick", "@reboot"), strict=True):
            assert reason in why
        theirs = [fates[key] for key in sorted(fates) if key[0] == legacy]
        assert [fate for fate, _ in theirs] == ["import", "stays", "stays", "stays"]
        assert "runs as root" in theirs[1][1]
        assert "nobody is the user of no app" in theirs[2][1]
        assert "minute" in theirs[3][1]

        shop.operator.run("cron", "import", "--on", "web1", "--yes")
        assert shop.target.run("ls", JOBS, check=False).stdout == ""  # no server is changed
        shop.operator.run("apply", "--only", "cron", "--yes")
        assert _lines(target) == []  # both would run
        names = sorted(each["name"] for each in run(shop.operator, "cron", "list")["data"]["jobs"])
        assert names == ["report", "report-2", "restart-cron"]
        target.run("crontab", "-u", "shop", "-r")
        target.run("rm", "/etc/cron.d/legacy")
        shop.operator.run("cron", "enable", "report", "--yes")
        assert [line.split()[:5] for line in _lines(target)] == [["15", "3", "*", "*", "*"]]
        assert "<a b>" in shop.wrote("report")
    finally:
        target.run("sh", "-c", "crontab -u shop -r; rm -f /etc/cron.d/legacy; true")
        for job in "report", "report-2", "restart-cron":
            shop.operator.run("cron", "remove", job, "--yes", check=False)


# --- other releases ---------------------------------------------------------------------------------------------------

_BOMB = """#!/usr/bin/python3
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
_EAT = "#!/usr/bin/python3\nheld = []\nwhile True: held.append(bytearray(b'x' * (8 << 20)))\n"


@pytest.fixture(scope="module")
def both(
    old_target: Target, new_target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Operator, dict[str, Target]]]:
    """Debian 11 and 13, with jobs of each minute."""
    operator = new_operator(tmp_path_factory.mktemp("both"))
    targets = {"old": old_target, "new": new_target}
    for name, target in targets.items():
        operator.add(name, target)
    operator.run("app", "create", "shop", "--on", "all", "--yes")
    for target in targets.values():
        script(target, "report", _SCRIPT)
        script(target, "bomb", _BOMB)
        script(target, "eat", _EAT)
    jobs: dict[str, tuple[str, ...]] = {"bomb": ("--timeout", "3s"), "eat": ("--memory", "64MiB"), "report": ()}
    for job, options in jobs.items():
        schedule = NEVER if job == "bomb" else EACH_MINUTE
        add = "cron", "add", job, "--on", "all", "--schedule", schedule, "--app", "shop", "--yes", *options
        operator.run(*add, "--", f"bin/{job}")
    yield operator, targets
    for job in jobs:
        operator.run("cron", "remove", job, "--yes")
    for target in targets.values():
        nothing_runs(target)
        assert _stat(target, CRONTAB) == ""
    operator.run("app", "remove", "shop", "--on", "all", "--purge-data", "--confirm", "shop")
    for name in targets:
        operator.run("server", "remove", name, "--confirm", name)


@pytest.mark.parametrize("name", ["old", "new"])
def test_other_releases(both: tuple[Operator, dict[str, Target]], name: str) -> None:
    operator, target = both[0], both[1][name]
    ran = ended(target, "report")[0]
    assert (ran["outcome"], ran["trigger"], ran["exit"]) == ("ok", "schedule", 0)
    run(operator, "cron", "run", "bomb", "--yes", on=name, exit=6)
    for job, outcome in ("eat", "out-of-memory"), ("bomb", "timeout"):
        record = ended(target, job)[0]
        assert record["outcome"] == outcome, record
    assert {"cron.failed/bomb", "cron.failed/eat"} <= alerts(target)
    assert run(operator, "cron", "history", "report", on=name)["data"]["runs"][-1]["outcome"] == "ok"
