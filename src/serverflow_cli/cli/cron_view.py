"""Jobs and their runs for people. `--json` has what the flows gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..model.cronrun import records, told
from ..model.result import CommandResult, Reply, ServerResult
from ..ui.terminal import Terminal
from ..ui.units import duration, size, time

#: Cron itself takes some seconds.
_LATE_S = 60
#: So many of a job's next runs are shown with it.
_UPCOMING = 3


def next_runs(result: CommandResult) -> CommandResult:
    """A column for each zone, the job's own first."""
    runs = [run["times"] for run in result.data["runs"]]
    notes = result.notes if runs else (*result.notes, f"{result.data['schedule']} never comes")
    return replace(result, data={"runs": runs} if runs else {}, notes=notes)


def jobs(result: CommandResult) -> CommandResult:
    """A row for each job on each server, whether fleet.toml asks for it, the server has it, or both."""
    rows: list[dict[str, Any]] = []
    wanted = records(result.data, "jobs")
    for server in result.servers:
        if server.error or not server.reply:
            continue
        there = {str(job.get("name")): job for job in records(server.reply.data, "jobs")}
        asked = {str(job["name"]): job for job in wanted if server.name in job["on"]}
        for name in sorted({*asked, *there}):
            rows.append(_job_row(server.name, name, asked.get(name), there.get(name)))
    notes = result.notes if rows or result.error else (*result.notes, "no jobs")
    return replace(_bare(result), data={"jobs": rows} if rows else {}, notes=notes)


def _job_row(
    server: str, name: str, asked: Mapping[str, Any] | None, there: Mapping[str, Any] | None
) -> dict[str, Any]:
    job = there or asked or {}
    return {
        "server": server,
        "job": name,
        "schedule": job.get("schedule"),
        "timezone": job.get("timezone"),
        "state": _state(asked, there),
        "next": moment(job.get("next")),
        "last": _last(there or {}),
    }


def _last(job: Mapping[str, Any]) -> str | None:
    last = job.get("last")
    return f"{told(last)}, {moment(last.get('started') or last.get('ended'))}" if isinstance(last, Mapping) else None


def _state(asked: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> str:
    """How a job is on its server, in a few words."""
    if there is None:
        return "not applied: sf apply --only cron"
    if there.get("problem"):  # disabled by the server, or changed by hand
        return f"{there['problem']}: {there.get('said') or ''}"
    state = "running" if there.get("running") else "enabled" if there.get("enabled", True) else "disabled"
    if asked is None:
        return f"{state}, not in fleet.toml"
    same = all(asked.get(key) == there.get(key) for key in ("schedule", "timezone", "enabled"))
    return state if same else f"{state}, other than in fleet.toml: sf apply --only cron"


def job(result: CommandResult) -> CommandResult:
    """As one server has it; a table and what fleet.toml asks for, where it is on several."""
    wanted = result.data.get("job")
    asked = wanted if isinstance(wanted, Mapping) else {}

    def shown(server: ServerResult) -> ServerResult:
        if server.error or not server.reply:
            return server
        found, ours = server.reply.data, asked if server.name in asked.get("on", ()) else None
        row = {
            key: value for key, value in _job_row("", str(found.get("name")), ours, found).items() if key != "server"
        }
        data = {"jobs": [row]} if len(result.servers) > 1 else _record(row, found)
        return replace(server, reply=replace(server.reply, data=data))

    several = (
        {"in fleet.toml": {**asked, "next": moment(asked.get("next"))}} if asked and len(result.servers) > 1 else {}
    )
    return replace(result, servers=tuple(map(shown, result.servers)), data=several)


def _record(row: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of a job that is there, in the order in which it is asked about."""
    words = [str(word) for key in ("command", "params") for word in _list(found.get(key))]
    tries, pause = found.get("retries"), found.get("retry_delay")
    return {
        **row,
        "next": [moment(at) for at in _list(found.get("upcoming"))[:_UPCOMING]],
        "does": " ".join((f"{found['app']}:" if found.get("app") else str(found.get("action") or ""), *words)),
        "timeout": duration(_ms(found.get("timeout"))),
        "memory": _ms(found.get("memory")) or None,
        "overlap": found.get("overlap"),
        "retries": f"{tries}, the first after {duration(_ms(pause))}" if tries else "none",
        "catch up": bool(found.get("catch_up")),
        "late after": duration(_ms(found.get("late"))),
        "installed": f"{moment(found.get('installed'))} by {found.get('installed_by') or 'nobody known'}",
        "op": found.get("op"),
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def history(result: CommandResult) -> CommandResult:
    """A row for each run."""
    shown = _each(result, lambda reply: replace(reply, data={"runs": list(map(run_row, records(reply.data)))}))
    some = any(server.reply and server.reply.data["runs"] for server in shown.servers if not server.error)
    if some or not any(not server.error for server in shown.servers):
        return shown
    return replace(_bare(shown), notes=(*shown.notes, "no such runs"))


def run_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run as people read it: when, how long, how it ended, what it used."""
    started, ended, due = (_ms(record.get(key)) for key in ("started", "ended", "due"))
    cpu, peak, attempts = record.get("cpu_ms"), record.get("peak_bytes"), record.get("attempts")
    took = duration((ended - started) // 1000) if started and ended else ""
    late = (started - due) // 1000 if started and due else 0
    return {
        "run": record.get("run"),
        "started": moment(started or due or ended) + (f" ({duration(late)} late)" if late >= _LATE_S else ""),
        "took": took or None,
        "ended": told(record) + (f", {attempts} attempts" if isinstance(attempts, int) and attempts > 1 else ""),
        "cpu": f"{cpu / 1000:.1f}s" if isinstance(cpu, int) else None,
        "memory": size(peak) if isinstance(peak, int) else None,
        "trigger": record.get("trigger"),
        "by": record.get("by"),
    }


def logs(terminal: Terminal, result: CommandResult) -> CommandResult:
    """What runs wrote, below the names of their servers if there are several."""
    several = len(result.servers) > 1
    for server in result.servers:
        if server.reply and not server.error:
            output(terminal, server.reply.data, server.name if several else "")
    return _each(result, _about_output)


def ran(terminal: Terminal, result: CommandResult) -> CommandResult:
    """The output of each run, then how it ended."""
    several = len(result.servers) > 1
    for server in result.servers:
        found = server.reply.data.get("output") if server.reply else None
        if isinstance(found, Mapping):
            output(terminal, found, server.name if several else "")
    return replace(result, servers=tuple(map(_ran, result.servers)))


def _ran(server: ServerResult) -> ServerResult:
    if not server.reply:
        return server
    data = server.reply.data
    if "outcome" not in data:  # it was only started
        return server
    row = run_row(data)
    used = ", ".join(f"{row[key]} {key}" for key in ("cpu", "memory") if row[key])
    note = f"run {row['run']}: {row['ended']}, took {row['took'] or '-'}" + (f", {used}" if used else "")
    return replace(server, reply=replace(server.reply, data={}, notes=(*server.reply.notes, note)))


def output(terminal: Terminal, data: Mapping[str, Any], heading: str) -> None:
    """The first and the last of what a run wrote; what lies between is told by its size."""
    head, tail, omitted = str(data.get("head") or ""), str(data.get("tail") or ""), data.get("omitted")
    middle = f"\n… {size(omitted)} left out …\n" if isinstance(omitted, int) and omitted else ""
    terminal.text(head + middle + tail, heading)


def _about_output(reply: Reply) -> Reply:
    record = reply.data.get("record")
    about = run_row(record) if isinstance(record, Mapping) else {}
    note = f"run {reply.data.get('run')}" + (f": {about['ended']}, started {about['started']}" if about else "")
    empty = not reply.data.get("head") and not reply.data.get("tail")
    nothing = "it wrote nothing" if reply.data.get("kept", True) else "what it wrote is not kept, or not there yet"
    notes = (note, nothing) if empty else (note,)
    return replace(reply, data={}, notes=(*notes, *reply.notes))


def imported(result: CommandResult) -> CommandResult:
    """A row for each line: where it is, what becomes of it, and why."""
    rows = [
        {
            "server": line["server"],
            "line": f"{line['file']}:{line['line']}",
            "fate": f"becomes cron.{line['job']}" if line["fate"] == "import" else _fate(line),
            "why": line["why"],
            "text": line["text"],
        }
        for line in result.data.get("lines", ())
    ]
    return replace(result, data={"lines": rows})


def _fate(line: Mapping[str, Any]) -> str:
    return f"is cron.{line['job']} already" if line["job"] else str(line["fate"])


def moment(value: Any) -> str:
    """Milliseconds since the epoch, or RFC 3339 text, in local time; "-" for none."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not value:
        return "-"
    return time(value, local=True)


def _ms(value: Any) -> int:
    """What one server says wrongly must not hide what the others say."""
    return value if type(value) is int else 0


def _each(result: CommandResult, view: Any) -> CommandResult:
    return replace(
        result,
        servers=tuple(
            replace(one, reply=view(one.reply)) if one.reply and not one.error else one for one in result.servers
        ),
    )


def _bare(result: CommandResult) -> CommandResult:
    return replace(
        result,
        servers=tuple(replace(one, reply=replace(one.reply, data={})) if one.reply else one for one in result.servers),
    )
