"""The top level of the command line, as a table: `sf --help` must not import the areas that it lists."""

from __future__ import annotations

from typing import NamedTuple

from serverflow_actions import registry


class Area(NamedTuple):
    """A first word. `module` has its hand-written commands; "" when all of them come from the registry.

    `derived` says that an area with a module takes the rest of its commands from the registry all the same, or these.
    """

    name: str
    group: str
    summary: str
    module: str = ""
    derived: bool | tuple[str, ...] = False


FLEET, SERVERS, APPS, TRUST, OTHER = "Fleet", "Servers", "Apps and data", "Trust and history", "Other areas"

AREAS = (
    Area("init", FLEET, "Start a fleet: fleet.toml, keys and the first trust file", "init"),
    Area("server", FLEET, "Add, list, check, rename, update and remove servers", "server"),
    Area("plan", FLEET, "Show what would make the servers be as fleet.toml says", "apply"),
    Area("apply", FLEET, "Make the servers be as fleet.toml says", "apply"),
    Area("system", SERVERS, "The machine itself: facts, updates, reboot, name, time zone"),
    Area("package", SERVERS, "Packages: list, install, remove"),
    Area("service", SERVERS, "systemd services: status, logs, start, stop, restart"),
    Area("user", SERVERS, "User accounts and their SSH keys"),
    Area("firewall", SERVERS, "Which ports are open, and to whom: allow, deny, list", "firewall"),
    Area("config", SERVERS, "Configuration files of the system: sshd, sysctl, sudoers …", "config", derived=True),
    Area("file", SERVERS, "Files in an app's data folders: put, show, list", "file", derived=True),
    Area("app", APPS, "Apps: a user, data folders and a port; create, list, remove"),
    Area("redis", APPS, "Redis instances"),
    Area("cron", APPS, "Scheduled jobs with a history: add, next, run, history, logs, import", "cron"),
    Area("notify", APPS, "Where alerts go: mail, Slack, webhooks; add, test, status", "notify"),
    Area("dns", APPS, "Zones and records, at Cloudflare or on PowerDNS of our own", "dns"),
    Area(
        "cert",
        APPS,
        "Certificates that servers get and renew by themselves",
        "cert",
        derived=("issue", "renew", "revoke"),
    ),
    Area("route", APPS, "Host names that lead to apps, ports and folders", "route", derived=("show",)),
    Area("action", TRUST, "Run any action by its name; list and describe them", "action"),
    Area("key", TRUST, "Keys of operators and CI jobs: add, grant, revoke, rotate", "key"),
    Area("trust", TRUST, "Who may do what: show it, sign it, see which server knows", "trust"),
    Area("secret", TRUST, "Values sealed to the operators: set, list, show, rotate, import, remove", "secret"),
    Area("registry", TRUST, "The signed runner and actions: show, sign, compare", "registry"),
    Area("op", TRUST, "Operations: what ran, what runs, follow, cancel", "op"),
    Area("audit", TRUST, "The signed history: show it, verify it", "audit"),
    Area("applied", TRUST, "What was last applied to a server's resources, and by whom"),
    Area("safe", TRUST, "Changes that undo themselves unless confirmed", "safe"),
)


def areas() -> tuple[Area, ...]:
    """The table without areas that have no command, and with areas of the registry that it does not know."""
    known = {area.name for area in AREAS}
    registered = [name for name in registry.areas() if registry.verbs(name)]
    there = tuple(area for area in AREAS if area.module or area.name in registered)
    return there + tuple(Area(name, OTHER, "") for name in registered if name not in known)
