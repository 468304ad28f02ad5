"""Alerts leave a real server by themselves, once: over a network that was gone, over a reboot, on a full disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from standardwebhooks import Webhook

from serverflow_cli.model.ids import new_ulid

from .alerts import ALERTS, CHANNELS, check_event, due, due_now, emit, spooled
from .areas import run
from .operator import Operator, eventually, new_operator
from .pending import RUNNER, waiting
from .sinks import Authority, Post, Web, gateway, web
from .target import Fleet, Target

_IN_MEMORY = "/run/serverflow/alerts"
_CHANGE = "config", "set", "sshd", "MaxAuthTries=3", "--yes", "--no-confirm"


@dataclass(frozen=True)
class Watched:
    """web1 with the channel `hook`, which leads to `sink`, and the job `report`, which fails unless there is a file
    `fine` in the app's folder.
    """

    operator: Operator
    target: Target
    sink: Web
    secret: str

    def job(self, *, fine: bool) -> None:
        """Run it as the server does, with no client anywhere."""
        self.target.run("touch" if fine else "rm", *([] if fine else ["-f"]), "/srv/shop/fine")
        ulid = new_ulid()
        unit = "--wait", "--quiet", "--collect", f"--unit=serverflow-cron-report-{ulid.lower()}"
        self.target.run("systemd-run", *unit, RUNNER, "cron-run", "report", ulid, "0", "manual")

    def told(self, post: Post) -> dict[str, Any]:
        """The event, once a library that is not ours has found its signature right."""
        event = Webhook(self.secret).verify(post.body, dict(post.headers))
        check_event(event)
        assert event["id"] == post.headers["webhook-id"]
        return dict(event)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = run(self.operator, "notify", "status")["data"]
        return found

    def idle(self) -> bool:
        """Nothing is being sent."""
        units = self.target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-notify-*.service")
        return not units.stdout.strip()


@pytest.fixture(scope="module")
def server(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("alerts")
    target = fleet.start_fresh("debian12")
    operator = new_operator(folder)
    operator.add("web1", target, "--role", "app")
    authority = Authority(folder)
    authority.trusted_by(target)
    with web(gateway(target), authority) as sink:
        add = "--json", "notify", "add", "webhook", "hook", "--stdin", "--yes"
        added = json.loads(operator.run(*add, input=sink.url("/hook")).stdout)
        run(operator, "app", "create", "shop", "--data", "/srv/shop", "--yes")
        job = "cron", "add", "report", "--schedule", "0 0 1 1 *", "--app", "shop", "--on", "web1", "--yes"
        operator.run(*job, "--", "/bin/ls", "fine", "wörds")
        target.run("touch", "/srv/shop/wörds")
        yield Watched(operator, target, sink, added["data"]["secret"])
    fleet.remove(target)


@pytest.fixture
def watched(server: Watched) -> Iterator[Watched]:
    """With nothing open, and nothing in the spool."""
    server.job(fine=True)
    eventually(lambda: server.idle() and not spooled(server.target), "all is sent")
    server.sink.posts.clear()
    server.sink.answers.clear()
    yield server
    server.sink.gate.set()


def test_the_first_failure_is_told_then_it_is_counted_then_it_is_over(watched: Watched) -> None:
    watched.job(fine=False)
    (opened,) = watched.sink.wait("/hook")
    event = watched.told(opened)
    assert {key: event[key] for key in ("kind", "key", "severity", "state", "server", "count", "title")} == {
        "kind": "cron.failed", "key": "cron.failed/report", "severity": "error", "state": "open", "server": "web1",
        "count": 1, "title": "Cron job report failed: exit status 2",
    }  # fmt: skip
    assert "cannot access 'fine'" in event["text"] and "wörds" in event["text"]
    assert event["data"]["exit"] == 2 and event["hostname"] == watched.target.name

    failed = watched.operator.run("cron", "run", "report", "--on", "web1", "--yes", check=False)
    assert failed.returncode == 6
    watched.job(fine=False)
    (known,) = watched.status()["open"]
    assert (known["key"], known["count"]) == ("cron.failed/report", 3)
    human = watched.operator.run("notify", "status").stderr
    assert "cron.failed/report since" in human and "3 times" in human and "lost" not in human

    watched.job(fine=True)
    resolved = watched.told(watched.sink.wait("/hook", 2)[1])
    assert (resolved["state"], resolved["key"], resolved["count"]) == ("resolved", event["key"], 3)
    assert (resolved["since"], resolved["title"]) == (event["since"], "Cron job report ran")
    assert watched.status()["open"] == []


def test_a_network_that_is_back_later_loses_nothing(watched: Watched) -> None:
    """Nobody runs `sf`: the retry timer does it."""
    watched.target.disconnect()
    watched.job(fine=False)
    eventually(lambda: [attempts(each) for each in spooled(watched.target)] == [1], "an attempt was made")
    eventually(watched.idle, "it was written down")
    timers = watched.target.run("systemctl", "list-timers", "--all", "--no-legend", "serverflow-notify-*").stdout
    assert len(timers.splitlines()) == 1
    assert watched.sink.posts == []
    watched.target.reconnect()
    (post,) = watched.sink.wait("/hook", timeout=60)
    assert watched.told(post)["key"] == "cron.failed/report"
    eventually(lambda: spooled(watched.target) == [], "the spool is empty")


def test_a_reboot_in_between_loses_nothing(watched: Watched) -> None:
    """The retry timer is gone then; the watch sees to it, here sooner than after a minute."""
    soon = "/etc/systemd/system/serverflow-watch.timer.d"
    watched.target.run("mkdir", soon)
    watched.target.run("sh", "-c", f"printf '[Timer]\\nOnBootSec=5s\\n' > {soon}/soon.conf")
    watched.target.disconnect()
    watched.job(fine=False)
    eventually(lambda: [attempts(each) for each in spooled(watched.target)] == [1], "an attempt was made")
    eventually(watched.idle, "it was written down")
    due(watched.target)
    watched.target.reboot()
    watched.target.reconnect()
    (post,) = watched.sink.wait("/hook", timeout=90)
    assert watched.told(post)["key"] == "cron.failed/report"
    eventually(lambda: spooled(watched.target) == [], "the spool is empty")
    watched.target.run("rm", "-r", soon)
    watched.target.run("systemctl", "daemon-reload")


def test_a_full_disk_loses_no_alert(watched: Watched) -> None:
    """It is kept in memory, where a later attempt finds it."""
    target = watched.target
    target.run("mkdir", "-p", "-m", "700", ALERTS)
    target.run("mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", ALERTS)
    try:
        target.run("sh", "-c", f"cat /dev/zero > {ALERTS}/full", check=False)
        watched.sink.answers["/hook"] = 503, ""
        watched.job(fine=False)
        eventually(lambda: [attempts(each) for each in spooled(target, _IN_MEMORY)] == [1], "an attempt was made")
        eventually(watched.idle, "it was written down")
        assert spooled(target) == []
        assert [letter["key"] for letter in watched.status()["spool"]] == ["cron.failed/report"]
        watched.sink.answers.clear()
        due_now(target, _IN_MEMORY)
        first, second = watched.sink.wait("/hook", 2)
        assert watched.told(first)["id"] == watched.told(second)["id"]
        eventually(lambda: spooled(target, _IN_MEMORY) == [], "the spool is empty")
        # It is open, although nothing could be written about that: told only once.
        watched.job(fine=False)
        watched.job(fine=True)
        assert watched.told(watched.sink.wait("/hook", 3)[2])["state"] == "resolved"
    finally:
        eventually(watched.idle, "nobody uses the folder")
        target.run("umount", ALERTS)


def test_a_channel_that_is_gone_for_good_is_given_up_and_shown(watched: Watched) -> None:
    watched.sink.answers["/hook"] = 410, "gone"
    tested = run(watched.operator, "notify", "test", "hook", exit=6)
    assert "hook was not sent to: it answered 410" in tested["error"]["message"]
    emit(watched.target, "cron.failed", "cron.failed/other")
    eventually(lambda: [attempts(each) for each in spooled(watched.target)] == [1], "an attempt was made")
    eventually(watched.idle, "it was written down")
    (channel,) = watched.status()["channels"]
    assert (channel["waiting"], channel["gave_up"], channel["said"]) == (1, 0, "it answered 410, gone")
    for _ in range(3):
        due_now(watched.target)
    assert len(watched.sink.at("/hook")) == 1 + 4
    due_now(watched.target)
    assert len(watched.sink.at("/hook")) == 1 + 4
    (channel,) = watched.status()["channels"]
    assert (channel["waiting"], channel["gave_up"]) == (0, 1)
    human = watched.operator.run("notify", "status").stderr
    assert "hook did not get cron.failed/other" in human and "410" in human
    assert "gave up on cron.failed" in watched.target.run("journalctl", "--no-pager", "-t", "serverflow").stdout
    # A letter of the same key that comes later is sent again.
    watched.sink.answers.clear()
    emit(watched.target, "cron.failed", "cron.failed/other", state="resolved")
    watched.target.run("sh", "-c", f"rm -f {ALERTS}/spool/*.json {ALERTS}/open")


def test_two_that_deliver_send_it_once(watched: Watched) -> None:
    watched.sink.gate.clear()
    for name in "abc":
        emit(watched.target, "cron.failed", f"disk/{name}")
    eventually(lambda: len(watched.sink.posts) == 1, "one is being sent")
    others = [threading.Thread(target=watched.target.run, args=(RUNNER, "deliver")) for _ in range(3)]
    for each in others:
        each.start()
    watched.target.run("systemctl", "start", "--no-block", "serverflow-watch.service")
    watched.sink.gate.set()
    for each in others:
        each.join()
    eventually(lambda: spooled(watched.target) == [] and watched.idle(), "all is sent")
    assert sorted(watched.told(post)["key"] for post in watched.sink.posts) == [f"disk/{name}" for name in "abc"]
    for name in "abc":
        emit(watched.target, "cron.failed", f"disk/{name}", state="resolved")
    watched.sink.wait("/hook", 6)


def test_nothing_is_sent_to_a_channel_that_was_removed(watched: Watched) -> None:
    operator, sink = watched.operator, watched.sink
    operator.run("notify", "add", "webhook", "second", "--stdin", "--yes", input=sink.url("/second"))
    sink.answers["/second"] = 503, ""
    emit(watched.target, "cron.failed", "cron.failed/other")
    sink.wait("/hook")
    sink.wait("/second")
    eventually(lambda: [attempts(each, "second") for each in spooled(watched.target)] == [1], "it was written down")
    operator.run("notify", "remove", "second", "--yes")
    watched.target.run(RUNNER, "deliver")
    assert spooled(watched.target) == []
    assert [channel["name"] for channel in watched.status()["channels"]] == ["hook"]
    assert (len(sink.at("/second")), len(sink.at("/hook"))) == (1, 1)
    emit(watched.target, "cron.failed", "cron.failed/other", state="resolved")
    sink.wait("/hook", 2)


def test_a_safe_change_that_goes_back_tells(watched: Watched) -> None:
    run(watched.operator, *_CHANGE, "--confirm-within", "10s", exit=13)
    op = waiting(watched.target)
    (post,) = watched.sink.wait("/hook", timeout=60)
    event = watched.told(post)
    assert (event["kind"], event["state"], event["severity"]) == ("safe.rolled_back", "event", "error")
    assert event["data"] == {"op": op} and op in event["title"]
    eventually(lambda: waiting(watched.target) == "", "it is over")


def test_a_safe_change_that_goes_back_at_the_boot_tells(watched: Watched) -> None:
    """Long before there is a network."""
    run(watched.operator, *_CHANGE, "--confirm-within", "1h", exit=13)
    op = waiting(watched.target)
    watched.target.reboot()
    (post,) = watched.sink.wait("/hook", timeout=60)
    assert watched.told(post)["data"] == {"op": op}


def test_a_server_that_leaves_takes_all_of_it_along(watched: Watched) -> None:
    """Also what waits, and a job that runs."""
    target = watched.target
    watched.sink.answers["/hook"] = 503, ""
    emit(target, "cron.failed", "cron.failed/other")
    job = "cron", "add", "long", "--schedule", "0 0 1 1 *", "--app", "shop", "--on", "web1", "--yes"
    watched.operator.run(*job, "--", "/bin/sleep", "3600")
    watched.operator.run("cron", "run", "long", "--on", "web1", "--yes", "--no-wait")
    eventually(lambda: target.run("pgrep", "-x", "sleep", check=False).stdout, "the job runs")
    eventually(lambda: watched.idle() and notifiers(target), "the notifier waits for its next attempt")
    before = len(watched.sink.posts)
    wishes = watched.operator.fleet / "fleet.toml"
    wishes.write_text(wishes.read_text().partition("[apps.shop]")[0])  # nothing of it names the server any more
    watched.operator.run("server", "remove", "web1", "--confirm", "web1")
    gone = CHANNELS, "/etc/serverflow/cron", "/etc/cron.d/serverflow", "/var/lib/serverflow", "/run/serverflow"
    eventually(lambda: not exist(target, *gone), "the files are gone")
    eventually(lambda: target.run("id", "serverflow", check=False).returncode, "it has left")
    assert notifiers(target) == "" and target.run("pgrep", "-x", "sleep", check=False).stdout == ""
    units = target.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "serverflow-*").stdout
    assert [line for line in units.splitlines() if "not-found" not in line] == []
    assert target.run("sh", "-c", "find /etc/systemd /run/systemd -name '*serverflow*'").stdout == ""
    assert len(watched.sink.posts) == before


def attempts(letter: dict[str, Any], channel: str = "hook") -> int:
    entry = letter["to"][channel]
    return int(entry["attempts"])


def notifiers(target: Target) -> str:
    """What is yet to be started for alerts."""
    argv = "systemctl", "list-timers", "--all", "--no-legend", "serverflow-notify-*", "serverflow-watch.timer"
    return target.run(*argv).stdout


def exist(target: Target, *paths: str) -> str:
    return target.run("ls", "-d", *paths, check=False).stdout
