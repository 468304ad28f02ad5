"""The executor's half of the broker: what a sandboxed engine may ask for, checked against what the signed action
declared.

Each verb takes named values, never a command line. Whatever is not declared is refused and reported.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Callable

import machine
import powerdns_api
import reach
import validate
from safely import Safely
from sandbox import bound_to, expand
from serverflow_actions.kit import addresses, grammar
from serverflow_actions.kit.host import ENVIRONMENT, HostError, show_units
from serverflow_actions.kit.sysctl import FILE as SYSCTL_FILE

#: What a safe change may ask for before it is armed.
_BEFORE_ARMING = ("unit-show", "addresses", "arm")
_UNIT_VERBS = ("start", "stop", "restart", "reload", "try-restart", "enable", "disable", "reset-failed")
_APT = (
    "apt-get",
    "-q",
    "-y",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "DPkg::Lock::Timeout=120",
)
_RELEVANT = re.compile(r"^(E: |W: |dpkg: error|N: Unable)", re.M)


class Stopped(HostError):
    """What was asked for was cut off in the middle."""


class Broker:
    """Serves one run. `progress` hears of what takes long. `unit` is the run's, `executor` ours; `stop` says why the
    run has to end now, "" to go on. `safely` knows what of it can be taken back.
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        params: dict[str, Any],
        unit: str,
        executor: str,
        stop: Callable[[], str],
        progress: Callable[[dict[str, Any]], None],
        safely: Safely,
    ) -> None:
        self._safely = safely
        self._manifest = manifest
        self._units = expand(manifest["units"], params)
        self._packages = expand(manifest["packages"], params)
        self._host_verbs = expand(manifest["host_verbs"], params)
        self._unit = unit
        self._executor = executor
        self._stop = stop
        self._progress = progress
        self.installed = False
        self.reboot = False

    def serve(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request. Raises HostError with the reason."""
        verbs: dict[str, Callable[..., dict[str, Any]]] = {
            "unit-show": self._unit_show,
            "unit": self._unit_do,
            "package": self._package,
            "account": self._account,
            "machine": self._machine,
            "powerdns": self._powerdns,
            "addresses": self._addresses,
            "certificate": self._certificate,
            "arm": self._arm,
            "put-aside": self._put_aside,
            "keep-aside": self._keep_aside,
        }
        if verb not in verbs:
            raise HostError(f"the broker knows no {verb}")
        if verb not in _BEFORE_ARMING and not self._safely.may_change:
            raise HostError("a safe change is armed before anything is done")
        try:
            return verbs[verb](**arguments)
        except (TypeError, ValueError) as error:
            raise HostError(f"the broker cannot read the request: {error}") from error

    def _unit_show(self, pattern: str) -> dict[str, Any]:
        if pattern.startswith("-"):
            raise HostError("a unit name cannot start with a dash")
        return {"units": [state._asdict() for state in show_units(pattern)]}

    def _unit_do(self, action: str, unit: str) -> dict[str, Any]:
        if action == "daemon-reload" and self._units:
            return self._systemctl("daemon-reload")
        name = grammar.unit(unit)
        if action not in _UNIT_VERBS:
            raise HostError(f"units cannot be asked to {action}")
        if not any(fnmatch.fnmatchcase(name, _with_suffix(pattern)) for pattern in self._units):
            raise HostError(f"{name} is not among the units that this action declares")
        reach.check(action, name, armed=self._safely.armed)
        validate.before(action, name)
        return self._systemctl(action, "--", name)

    def _arm(self, **footprint: Any) -> dict[str, Any]:
        self._safely.arm(**footprint)
        return {}

    def _put_aside(self, path: str) -> dict[str, Any]:
        self._safely.put_aside(path)
        return {}

    def _keep_aside(self, path: str) -> dict[str, Any]:
        self._safely.keep_aside(path)
        return {}

    def _systemctl(self, *arguments: str) -> dict[str, Any]:
        self._run(["systemctl", "--no-ask-password", *arguments], 120)
        return {}

    def _package(self, action: str, names: Sequence[str]) -> dict[str, Any]:
        if not os.path.exists("/usr/bin/dpkg"):
            raise HostError("packages are managed with apt only; this server has no dpkg")
        if not self._packages:
            raise HostError("this action declares no packages")
        for name in map(grammar.package, names):
            if "*" not in self._packages and name not in self._packages:
                raise HostError(f"{name} is not among the packages that this action declares")
        commands: dict[str, list[list[str]]] = {
            "refresh": [[*_APT, "update"]],
            "install": [[*_APT, "install", "--no-remove", "--no-install-recommends", "--", *names]],
            "remove": [[*_APT, "remove", "--", *names]],
            "purge": [[*_APT, "purge", "--", *names]],
            "upgrade": [[*_APT, "upgrade", "--with-new-pkgs", "--no-remove"]],
        }
        if action not in commands or (action == "upgrade" and "*" not in self._packages):
            raise HostError(f"packages cannot be asked to {action}")
        for argv in commands[action]:
            self._progress({"t": "step", "doing": f"apt-get {action} {' '.join(names)}".strip()})
            self._apt(argv)
        self.installed = self.installed or action == "install"
        return {}

    def _apt(self, argv: list[str]) -> None:
        """dpkg that was cut off in the middle is mended first."""
        self._in_unit("dpkg", ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])
        self._in_unit("apt", argv)

    def _in_unit(self, suffix: str, argv: list[str]) -> None:
        """In a unit of its own, with limits only: maintainer scripts are arbitrary code and need the whole system."""
        unit = f"{self._unit}-{suffix}"
        properties = [
            *bound_to(self._executor), "MemoryMax=1G", "TasksMax=512", f"RuntimeMaxSec={self._manifest['timeout']}",
            "TimeoutStopSec=5", "LimitCORE=0",
        ]  # fmt: skip
        settings = {**ENVIRONMENT, "NEEDRESTART_MODE": "l", "APT_LISTCHANGES_FRONTEND": "none"}
        try:
            self._run(
                [
                    "systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--unit={unit}",
                    *(f"--property={each}" for each in properties),
                    *(f"--setenv={name}={value}" for name, value in settings.items()),
                    "--", *argv,
                ],
                self._manifest["timeout"],
            )  # fmt: skip
        except Stopped:
            # Asked first, so that dpkg may finish what it has in hand.
            subprocess.run(["systemctl", "stop", "--", f"{unit}.service"], env=ENVIRONMENT, check=False, timeout=30)
            raise

    def _run(self, argv: list[str], timeout: int) -> None:
        """Raises HostError with the lines of the output that say why; Stopped when the run has to end now."""
        deadline = time.monotonic() + timeout
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
        ) as process:
            while True:
                try:
                    said, _ = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    reason = self._stop()
                    if reason or time.monotonic() > deadline:
                        process.kill()
                        raise Stopped(reason or f"{argv[0]} did not end within {timeout} s") from None
        if process.returncode:
            text = said.decode("utf-8", "replace").strip()
            telling = [line for line in text.splitlines() if _RELEVANT.match(line)] or text.splitlines()[-3:]
            raise HostError(f"{argv[0]}: " + ("; ".join(telling)[:1000] or f"exit code {process.returncode}"))

    def _account(self, action: str, **fields: Any) -> dict[str, Any]:
        if not self._manifest["accounts"]:
            raise HostError("this action does not declare that it changes accounts")
        self._run(_account_argv(action, fields), 60)
        return {}

    def _machine(self, action: str, value: str) -> dict[str, Any]:
        if action not in self._host_verbs:
            raise HostError(f"this action does not declare {action}")
        if action == "reboot":
            # After the receipt is on disk: see executor.py.
            self.reboot = True
        elif action == "hostname":
            machine.set_hostname(grammar.hostname(value))
        elif action == "timezone":
            machine.set_timezone(grammar.timezone(value))
        elif action == "firewall-unit":
            machine.set_firewall_unit(value)
            return self._systemctl("daemon-reload")
        elif action == "watch-unit":
            machine.set_watch_unit(value)
            return self._systemctl("daemon-reload")
        elif action == "cert-unit":
            machine.set_cert_unit(value)
            return self._systemctl("daemon-reload")
        elif action == "sysctl":
            machine.check_values_can_be_set()
            # With a file it applies that one alone, systemd-sysctl(8).
            self._run(["/lib/systemd/systemd-sysctl", SYSCTL_FILE], 60)
        return {}

    def _powerdns(self, call: str, **fields: Any) -> dict[str, Any]:
        return powerdns_api.request(self._host_verbs, call, **fields)

    def _addresses(self) -> dict[str, Any]:
        return {"addresses": addresses.own()}

    def _certificate(self, do: str, name: str, **fields: Any) -> dict[str, Any]:
        if f"cert-{do}" not in self._host_verbs:
            raise HostError(f"this action does not declare cert-{do}")
        import certunit

        return certunit.perform(do, grammar.name(name), fields, self._stop)


def _with_suffix(pattern: str) -> str:
    return pattern if "*" in pattern else grammar.unit(pattern)


def _account_argv(action: str, fields: dict[str, Any]) -> list[str]:
    """useradd(8), usermod(8), userdel(8), groupadd(8), groupdel(8) with checked values."""
    name = grammar.username(fields.pop("name"))
    if name in ("root", "serverflow", "serverflow-read"):
        raise HostError(f"{name} is not changed by actions")
    options: list[str] = []
    if fields.pop("system", False):
        options.append("--system")
    if action == "user-add":
        options.append("--create-home" if fields.pop("create_home", True) else "--no-create-home")
    for key, flag, check in (
        ("shell", "--shell", grammar.path),
        ("home", "--home-dir" if action == "user-add" else "--home", grammar.path),
        ("comment", "--comment", grammar.text),
        ("group", "--gid", grammar.username),
        ("uid", "--uid", lambda raw: str(grammar.integer(raw))),
    ):
        if fields.get(key) not in (None, ""):
            options += [flag, check(fields[key])]
        fields.pop(key, None)
    groups = fields.pop("groups", None)
    if groups is not None:
        options += ["--groups", ",".join(grammar.username(group) for group in groups)]
    if action == "user-remove" and fields.pop("remove_home", False):
        options.append("--remove")
    if fields:
        raise HostError(f"the broker knows no account field {', '.join(fields)}")
    programs = {
        "user-add": ["useradd", "--password", "*"],
        "user-change": ["usermod"],
        "user-remove": ["userdel"],
        "group-add": ["groupadd"],
        "group-remove": ["groupdel"],
    }
    if action not in programs:
        raise HostError(f"accounts cannot be asked to {action}")
    return [*programs[action], *options, "--", name]
