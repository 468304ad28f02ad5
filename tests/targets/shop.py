"""A server with an app whose jobs run scripts, and what became of them, read beside SSH by nothing of ours."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .areas import run
from .operator import Operator, eventually, new_operator
from .target import Fleet, Target

JOBS, CRONTAB = "/etc/serverflow/cron", "/etc/cron.d/serverflow"
STATE = "/var/lib/serverflow/cron/jobs"
RUNNER = "/usr/local/libexec/serverflow/runner"
EACH_MINUTE = "* * * * *"
#: Never before this test has ended: 29 February.
NEVER = "0 0 29 2 *"


@dataclass(frozen=True)
class Shop:
    """A server, web1, with the app `shop`, whose folder has a program `bin/…` for each script."""

    operator: Operator
    target: Target

    def add(self, job: str, *command: str, schedule: str = NEVER, **options: str) -> None:
        """A job that runs `bin/…`. Options as of `sf cron add`, with `_` for `-`."""
        given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        what = "--on", "web1", "--schedule", schedule, "--app", "shop", *given, "--yes"
        self.operator.run("cron", "add", job, *what, "--", *command)

    def apply(self, jobs: Mapping[str, str]) -> None:
        """All these stanzas at once: text of fleet.toml by job, in the place of all that are there."""
        path = self.operator.fleet / "fleet.toml"
        before, _, _ = path.read_text().partition("[cron.")
        stanzas = (f'[cron.{name}]\non = "web1"\n{text}\n' for name, text in jobs.items())
        path.write_text(before + "\n".join(stanzas))
        self.operator.run("apply", "--yes")

    def jobs(self) -> list[str]:
        """Those of fleet.toml."""
        return list(tomllib.loads((self.operator.fleet / "fleet.toml").read_text()).get("cron", {}))

    def script(self, name: str, text: str) -> None:
        script(self.target, name, text)

    def by_hand(self, job: str, exit: int = 0) -> dict[str, Any]:
        """`sf cron run`: the record of the run, with what it wrote."""
        found: dict[str, Any] = run(self.operator, "cron", "run", job, "--yes", exit=exit)["data"]
        return found

    def wrote(self, job: str, exit: int = 0) -> str:
        """What a run by hand wrote."""
        return str(self.by_hand(job, exit)["output"]["head"])

    def ended(self, job: str, count: int = 1, timeout: float = 90) -> list[dict[str, Any]]:
        return ended(self.target, job, count, timeout)


def script(target: Target, name: str, text: str) -> None:
    """Into the app's folder, as a deployment would: the app's own."""
    target.run("sh", "-c", f"mkdir -p /srv/shop/bin && cat > /srv/shop/bin/{name}", input=text)
    target.run("sh", "-c", "chown -R shop:shop /srv/shop && chmod 755 /srv/shop/bin/*")


def ended(target: Target, job: str, count: int = 1, timeout: float = 90) -> list[dict[str, Any]]:
    """The last lines of its runs, oldest first, once there are so many."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = [line for line in history(target, job) if line["t"] == "end"]
        return len(found) >= count

    eventually(enough, f"{count} runs of {job} have ended", timeout)
    return found


def history(target: Target, job: str) -> list[dict[str, Any]]:
    text = target.run("sh", "-c", f"cat {STATE}/{job}/history 2>/dev/null || true").stdout
    return [json.loads(line) for line in text.splitlines()]


def alerts(target: Target) -> set[str]:
    """Keys of what is open: `cron.failed/report`."""
    text = target.run("sh", "-c", "cat /var/lib/serverflow/alerts/open 2>/dev/null || echo {}").stdout
    return {key for key, value in json.loads(text).items() if value["state"] == "open"}


def processes(target: Target, user: str = "shop") -> str:
    """What runs as that user."""
    return target.run("ps", "-u", user, "-o", "pid=,args=", check=False).stdout


def units(target: Target) -> str:
    """Runs of jobs, as systemd has them."""
    patterns = "serverflow-cron-*", "serverflow-job-*"
    return target.run("systemctl", "list-units", "--all", "--plain", "--no-legend", *patterns).stdout


def nothing_runs(target: Target) -> None:
    eventually(lambda: not units(target), "no run is left", 60)
    assert processes(target) == ""


# --- another time ----------------------------------------------------------------------------------------------------


def look(target: Target, ahead: int = 0) -> None:
    """What the timer starts every five minutes, as if the clock were so many seconds ahead. Not by libfaketime, which
    moves the clocks that nobody can set as well, or else fails each sleep.
    """
    target.run("python3", "-IS", "-c", _AHEAD.format(ahead), "watch") if ahead else target.run(RUNNER, "watch")


_AHEAD = f"""
import runpy, time
true, true_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: true() + {{0}}, lambda: true_ns() + {{0}} * 10**9
runpy.run_path({RUNNER!r}, run_name="__main__")
"""


@contextlib.contextmanager
def open_shop(fleet: Fleet, folder: Path, release: str = "debian12") -> Iterator[Shop]:
    """A brand-new server in a fleet of its own, with the app."""
    target = fleet.start_fresh(release)
    try:
        operator = new_operator(folder)
        operator.add("web1", target)
        operator.run("app", "create", "shop", "--on", "web1", "--yes")
        yield Shop(operator, target)
    finally:
        fleet.remove(target)
