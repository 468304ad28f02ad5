"""`sf cron import`: what other crontabs run, the fate of each line, and stanzas for those that can be taken over."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit import argv, schedule, scheduled

from ..config.edit import edit
from ..errors import PlanChanged, SfError
from ..model.cronrun import records
from ..model.result import CommandResult, Report
from .actions import run_action
from .cron import TABLE, checked
from .stanza import AGAIN
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet

Approve = Callable[[CommandResult], bool]

#: Variables that change nothing for a program that is started without a shell, or that are the same for jobs.
_HARMLESS = ("HOME", "LANG", "LC_ALL", "LOGNAME", "MAILFROM", "MAILTO", "SHELL", "USER")
#: Programs that change the user. They are setuid, and these do not work in jobs.
_OTHER_USER = ("doas", "su", "sudo")
#: Lines that Debian and its packages bring (cron, anacron, e2fsprogs, sysstat …) are these programs' own business.
_SYSTEM_FILES = ("/etc/crontab",)


@dataclass
class _Line:
    """A line of a crontab, and what becomes of it: a stanza, one that is there already, or nothing, with the reason."""

    server: str
    file: str
    number: int
    text: str
    stanza: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    why: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def row(self) -> dict[str, Any]:
        fate = "stays" if self.why else "is there already" if not self.stanza else "import"
        about = self.why or "; ".join(self.remarks)
        return {"server": self.server, "file": self.file, "line": self.number, "text": self.text, "fate": fate,
                "job": self.job, "why": about}  # fmt: skip


async def import_jobs(
    workspace: Workspace, selector: str, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Ask the servers, and write disabled stanzas into fleet.toml. No server is changed: both would run otherwise."""
    found = await run_action(
        workspace,
        "cron.crontabs",
        selector,
        {},
        secrets={},
        plan=False,
        approve=lambda _: True,
        timeout_s=None,
        lock_wait_s=0,
        report=report,
    )
    lines: list[_Line] = []
    notes: list[str] = []
    for server in found.servers:
        data = server.reply.data if server.reply and not server.error else {}
        zone = str(data.get("server_timezone") or "UTC")
        lines += [_judged(workspace, server.name, zone, record) for record in records(data, "lines")]
        notes += [
            f"{server.name}: {each.get('file')} is not looked at: {each.get('why')}" for each in records(data, "unread")
        ]
        if data.get("more"):
            notes.append(f"{server.name}: {data['more']} more lines did not fit into the answer")
    stanzas = _named(workspace.fleet, lines)
    servers = tuple(replace(one, reply=replace(one.reply, data={})) if one.reply else one for one in found.servers)
    result = CommandResult(
        workspace.label, servers=servers, data={"lines": [line.row for line in lines]}, notes=tuple(notes)
    )
    if not stanzas:
        some = any(not server.error for server in found.servers)  # of the others nobody knows
        return replace(result, notes=(*notes, "there is nothing to take over")) if some else result
    names = ", ".join(stanzas)
    if plan:
        return replace(result, notes=(*notes, f"would be written into fleet.toml, disabled: {names}"))
    fates = (*notes, *_questions(lines), f"into fleet.toml, disabled: {names}")
    if not approve(replace(result, servers=(), data={}, notes=fates)):
        raise SfError("nothing was done", code="declined")
    with edit(workspace.folder) as editor:
        for name, values in stanzas.items():
            if editor.exists(TABLE, name):
                raise PlanChanged(f"{TABLE}.{name} has come into fleet.toml meanwhile", hint=AGAIN)
            editor.set_entry(TABLE, name, values)
    workspace.refresh()
    done = f"in fleet.toml now, disabled: {names}"
    return replace(result, notes=(*notes, done, "for each: take its old line out, then: sf cron enable JOB"))


def _questions(lines: Sequence[_Line]) -> Iterator[str]:
    """The fate of each line, for whoever is asked."""
    for line in lines:
        row = line.row
        what = f"becomes {TABLE}.{line.job}" if row["fate"] == "import" else f"{row['fate']} {line.job}".strip()
        yield f"{line.server} {line.file}:{line.number}: {what}" + (f" ({row['why']})" if row["why"] else "")


def _judged(workspace: Workspace, server: str, zone: str, record: Mapping[str, Any]) -> _Line:
    """A line with its fate. What a server says is text that is checked as if somebody had typed it."""
    number = record.get("line")
    line = _Line(
        server, str(record.get("file", "")), number if isinstance(number, int) else 0, str(record.get("text", ""))
    )
    try:
        when, user = str(record.get("schedule", "")), str(record.get("user", ""))
        if not when:
            raise ValueError("it cannot be read as a line of a crontab")
        if line.file in _SYSTEM_FILES:
            raise ValueError("it is the system's own: /etc/cron.hourly, .daily and the like")
        line.stanza = {"on": server, "schedule": _schedule(when), "timezone": zone}
        line.stanza |= _work(workspace.fleet, server, user, str(record.get("command", "")))
        line.stanza["enabled"] = False
        line.remarks += _variables(record.get("env"), bool(line.stanza.get("app")))
        checked(workspace, "imported", line.stanza)
    except (ValueError, SfError) as error:
        line.why, line.stanza = str(error), {}
    return line


def _schedule(text: str) -> str:
    try:
        return schedule.parse(text).text
    except ValueError as error:
        raise ValueError(f"the schedule: {error}") from None


def _work(fleet: Fleet, server: str, user: str, command: str) -> dict[str, Any]:
    """What the line does, as keys of a stanza. Raises ValueError with the reason why no job can do it."""
    from ..model import selector

    try:
        words = argv.split(command)
    except ValueError as error:
        raise ValueError(f"the command {error}") from None
    if user == "root":
        action = _as_action(words)
        if not action:
            raise ValueError("it runs as root: a job runs as an app's user, or is an action (sf action list)")
        return action
    apps = [
        name
        for name, app in fleet.apps.items()
        if (app.user or name) == user and server in selector.resolve(fleet.servers, app.on)
    ]
    if not apps:
        raise ValueError(f"{user} is the user of no app on {server}: sf app create, and the line belongs to that app")
    program = posixpath.basename(words[0])
    if program in _OTHER_USER:
        raise ValueError(f"it is started with {program}: a job runs as its app's user, and cannot become another one")
    return {"app": apps[0], "command": list(words)}


def _as_action(words: Sequence[str]) -> dict[str, Any]:
    """What root's line is as an action: units that are started, stopped, restarted or reloaded. {} for all else."""
    program = posixpath.basename(words[0])
    rest = [word for word in words[1:] if word not in ("-q", "--quiet", "--no-block")]
    if program == "service" and len(rest) == 2:
        rest.reverse()
    elif program != "systemctl" or len(rest) != 2:
        return {}
    verb, unit = rest
    try:
        action = registry.load(f"service.{verb}")
        scheduled.check(action, [f"unit={unit}"])
    except (KeyError, ValueError):
        return {}
    return {"action": action.name, "params": {"unit": unit}}


def _variables(env: Any, command: bool) -> Iterator[str]:
    """Remarks on what is set above the line. Raises ValueError for what the program would miss."""
    known = env if isinstance(env, Mapping) else {}
    missed = [str(name) for name in known if name not in (*_HARMLESS, "PATH", "CRON_TZ", "RANDOM_DELAY")]
    if missed and command:
        raise ValueError(f"it is started with {', '.join(missed)}: put that into a script of the app")
    if known.get("CRON_TZ"):
        yield "Debian's cron ignores CRON_TZ: it has run by the server's clock, and goes on so"
    if known.get("RANDOM_DELAY"):
        yield "without the random delay"
    if known.get("PATH") and command:
        yield f"its PATH was {known['PATH']}: a program elsewhere than in the usual folders needs its whole path"
    if known.get("MAILTO") and command:
        yield "no mail with its output: sf cron logs, and alerts (sf notify) when it fails"
    if command:
        yield "starts in the app's first folder and not in its user's home"


def _named(fleet: Fleet, lines: Sequence[_Line]) -> dict[str, dict[str, Any]]:
    """Stanzas by name, and each line with its job's name. The same line of several servers is one job."""
    stanzas: dict[str, dict[str, Any]] = {}
    for line in lines:
        if not line.stanza:
            continue
        present = next((name for name, job in fleet.cron.items() if _same(fleet, line, job)), "")
        if present:
            line.job, line.stanza = present, {}
            continue
        twin = next((name for name, values in stanzas.items() if _alike(values, line)), "")
        if twin:
            stanzas[twin]["on"] += f",{line.server}"
            line.job = twin
            continue
        line.job = _free_name(line.stanza, {*fleet.cron, *stanzas})
        stanzas[line.job] = dict(line.stanza)
    return stanzas


def _alike(values: Mapping[str, Any], line: _Line) -> bool:
    same = {**values, "on": ""} == {**line.stanza, "on": ""}
    return same and line.server not in values["on"].split(",")


def _same(fleet: Fleet, line: _Line, job: Any) -> bool:
    """Whether a job of fleet.toml already does on this server what the line does."""
    from ..model import selector

    does = {key: line.stanza.get(key) for key in ("app", "action")}
    return (
        line.server in selector.resolve(fleet.servers, job.on)
        and does == {"app": job.app, "action": job.action}
        and tuple(line.stanza.get("command", ())) == job.command
        and line.stanza.get("params", {}) == job.params
        and schedule.parse(job.schedule).fields == schedule.parse(line.stanza["schedule"]).fields
    )


def _free_name(values: Mapping[str, Any], taken: Collection[str]) -> str:
    """A name made of the program's, or of the action's verb and unit."""
    if values.get("command"):
        words = posixpath.splitext(posixpath.basename(values["command"][0]))[0]
    else:
        words = f"{values['action'].partition('.')[2]}-{values['params']['unit'].removesuffix('.service')}"
    plain = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    stem = (plain if plain[:1].isalpha() else f"job-{plain}")[:28].strip("-")
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
