"""What an action declares, and `parse`: the one door for values that come from outside.

Everything else is derived from a declaration: the CLI command, validation on both sides, the manual, completion, the
registry manifest and the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any, Callable, NamedTuple, Union

from . import grammar

Value = Union[str, int, bool, list[str]]
Params = SimpleNamespace

KINDS = ("change", "read", "task")
PROFILES = ("read", "app", "svc", "cfg", "account", "sql", "pkg", "core")
SAFE = ("", "always")
REQUIRED: Any = object()


class BadParams(ValueError):
    """A parameter is missing, unknown, or outside its grammar. The message names the parameter."""


class Param(NamedTuple):
    """One value of an action.

    `type` names a grammar in `kit.grammar` (`unit`, `size`, `port` …). `many` makes it a list. `secret` values travel
    in the secrets frame and never reach argv, logs, receipts or diffs. `positional` puts it before the options on the
    command line. `complete` says what the shell completes it from (`unit`, `app`, `package` …).
    """

    name: str
    type: str
    help: str
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    many: bool = False
    secret: bool = False
    positional: bool = False
    complete: str = ""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def param(name: str, type: str, help: str, **options: Any) -> Param:
    """Declare a parameter; `type` must be a grammar that exists."""
    if type not in grammar.TYPES:
        raise TypeError(f"parameter {name}: no grammar named {type}")
    return Param(name, type, help, **options)


class Action(NamedTuple):
    """One thing that a server can be asked to do.

    `writes`, `units` and `packages` say what the sandbox opens; `{name}` stands for the parameter of that name, and
    what begins with `{kind=sshd}` counts only where the parameter `kind` is `sshd`.

    kind          change (a generator of steps), read (returns a dict), task (steps for a one-off such as a restart)
    profile       the sandbox, see docs/protocol.md
    timeout       seconds
    memory        bytes
    writes        folders that the engine may write
    units         units that it may start, stop, restart or reload
    packages      packages that it may install or remove; ("*",) for the package area itself
    accounts      whether it may add, change and remove users and groups
    host_verbs    reboot, hostname, timezone, firewall-unit, watch-unit, sysctl, cert-*, and those of
                  kit/powerdns.py: rare powers, each named
    reads         folders that a read opens although only root may read them; "journal" for the journal
    run_as        "app": the engine runs as the user of the app that the parameter `app` (or `name`) names
    locks         locks that it takes; () is none, ("server",) the server's
    streams       the plan function of this read yields chunks of bytes instead of returning a dict
    reveals       values made on the server that the result shows once, or that `--seal` puts away
    destructive   asks for the name to be typed
    table         the table of fleet.toml that the short command edits ("redis"); "" for none
    blobs         bytes of blobs that a command may bring along; 0 for none
    resource      the key under which a server remembers what was last applied; "" makes it from `table`
    schedules     the parameter that names another action to run later, with the KEY=VALUE in `params`: the key needs a
                  grant for that one too; "" none
    safe          "always": only as a safe change, which undoes itself unless it is confirmed; "": on wish
    lifelines     the name of a parameter, then globs: likewise always a safe change where its value matches one
    """

    name: str
    summary: str
    kind: str
    plan: Callable[[Params, Any], Any]
    params: tuple[Param, ...] = ()
    version: int = 1
    profile: str = "cfg"
    timeout: int = 60
    memory: int = 256 * 1024 * 1024
    writes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    accounts: bool = False
    host_verbs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    run_as: str = ""
    ports: tuple[str, ...] = ()
    locks: tuple[str, ...] = ("server",)
    reveals: tuple[str, ...] = ()
    destructive: bool = False
    streams: bool = False
    table: str = ""
    blobs: int = 0
    resource: str = ""
    schedules: str = ""
    safe: str = ""
    lifelines: tuple[str, ...] = ()

    @property
    def area(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def verb(self) -> str:
        return self.name.split(".", 1)[1]

    def manifest(self, module: str) -> dict[str, Any]:
        """What registry.json keeps of it: enough to authorise and to build the sandbox before its code is loaded."""
        return {
            "module": module,
            "version": self.version,
            "kind": self.kind,
            "profile": self.profile,
            "timeout": self.timeout,
            "memory": self.memory,
            "writes": list(self.writes),
            "units": list(self.units),
            "packages": list(self.packages),
            "accounts": self.accounts,
            "host_verbs": list(self.host_verbs),
            "reads": list(self.reads),
            "run_as": self.run_as,
            "ports": list(self.ports),
            "locks": list(self.locks),
            "streams": self.streams,
            "blobs": self.blobs,
            "resource": self.resource or (f"{self.area}.{{name}}" if self.table else ""),
            "schedules": self.schedules,
            "safe": self.safe,
            "lifelines": list(self.lifelines),
            "secrets": [p.name for p in self.params if p.secret],
        }


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\.[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


def action(
    name: str, summary: str, *, kind: str, params: Sequence[Param] = (), **options: Any
) -> Callable[[Callable[..., Any]], Action]:
    """Turn a generator (or, for a read, a function) into an Action: `@action("redis.create", "…", kind="change")`."""
    if not _NAME.match(name) or kind not in KINDS or options.get("profile", "cfg") not in PROFILES:
        raise TypeError(f"action {name}: bad name, kind or profile")
    if options.get("safe", "") not in SAFE:
        raise TypeError(f"action {name}: safe is one of {SAFE}")
    if options.get("lifelines", ())[:1] not in [(), *((p.name,) for p in params)]:
        raise TypeError(f"action {name}: lifelines begin with the name of a parameter")
    if kind == "read":
        options.setdefault("profile", "read")
        options.setdefault("locks", ())
        options.setdefault("timeout", 20)

    def declare(plan: Callable[..., Any]) -> Action:
        return Action(name, summary, kind, plan, tuple(params), **options)

    return declare


def needs_safe(safe: str, lifelines: Sequence[str], params: Mapping[str, Any]) -> bool:
    """Whether these values, of an action or of its entry in the manifest, make a change that must be a safe one.

    Values may be as they came in: a unit's name is compared with and without `.service`.
    """
    if safe == "always":
        return True
    found = params.get(lifelines[0]) if lifelines else None
    values = found if isinstance(found, list) else [found]
    names = [name for value in values if isinstance(value, str) for name in (value, f"{value}.service")]
    return any(fnmatchcase(name, pattern) for name in names for pattern in lifelines[1:])


def parse(params: Sequence[Param], values: dict[str, Any]) -> Params:
    """Check outside values against their grammars; all problems are reported at once.

    Returns a namespace with one attribute for each parameter (dashes become underscores).

    Raises BadParams.
    """
    known = {p.name: p for p in params}
    problems = [f"{name}: unknown parameter" for name in values if name not in known]
    out: dict[str, Any] = {}
    for p in params:
        if p.name not in values or values[p.name] is None:
            if p.required:
                problems.append(f"{p.name}: missing")
            out[p.name.replace("-", "_")] = p.default
            continue
        try:
            out[p.name.replace("-", "_")] = _value(p, values[p.name])
        except ValueError as error:
            problems.append(f"{p.name}: {error}")
    if problems:
        raise BadParams("; ".join(problems))
    return SimpleNamespace(**out)


def _value(p: Param, raw: Any) -> Any:
    if not p.many:
        return _one(p, raw)
    if not isinstance(raw, list):
        raise ValueError("must be a list")
    if len(raw) > 256:
        raise ValueError("more than 256 values")
    return [_one(p, item) for item in raw]


def _one(p: Param, raw: Any) -> Any:
    value = grammar.TYPES[p.type](raw)
    if p.choices and value not in p.choices:
        raise ValueError(f"must be one of {', '.join(p.choices)}")
    if p.minimum is not None and value < p.minimum:
        raise ValueError(f"must be at least {p.minimum}")
    if p.maximum is not None and value > p.maximum:
        raise ValueError(f"must be at most {p.maximum}")
    return value
