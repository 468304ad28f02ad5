"""`sf cron`: jobs on a schedule. They are a wish in fleet.toml; their runs are told by the servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..model.result import CommandResult
from . import cron_view
from .how import how_of
from .op import Limit, count_of
from .options import ConfirmWithin, LockWait, NoConfirm, On, OnAll, Plan, Safe, Yes, seconds
from .session import Session

if TYPE_CHECKING:
    from ..flows.workspace import Workspace

Job = Annotated[str, typer.Argument(metavar="JOB", help="Job name")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORD", help="After --app and --: the command; after --action: KEY=VALUE"),
]
OnJob = Annotated[
    str | None, typer.Option("--on", metavar="SELECTOR", help="Only these servers (the job's own when left out)")
]
NewOn = Annotated[str | None, typer.Option("--on", metavar="SELECTOR", help="Servers that are to have it")]
ScheduleText = typer.Option(
    "--schedule", metavar="SCHEDULE", help='Five fields of crontab(5), such as "15 3 * * *", or @daily and the like'
)
TimeZone = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Zone of the schedule [default: the fleet's]")
]
App = Annotated[
    str | None, typer.Option("--app", metavar="APP", help="App as whose user the command runs, in its first folder")
]
ActionName = Annotated[
    str | None, typer.Option("--action", metavar="ACTION", help="Action to run, such as service.restart")
]
RunTimeout = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="Most time for a run [default: 1h]")
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="Most memory for a run of a command [default: 512MiB]")
]
Overlap = Annotated[
    str | None,
    typer.Option(
        "--overlap", metavar="skip|wait|kill", help="When the run before is still running: what to do [default: skip]"
    ),
]
Retries = Annotated[
    str | None, typer.Option("--retries", metavar="COUNT", help="Runs after one that failed, 0 to 10 [default: 0]")
]
RetryDelay = Annotated[
    str | None,
    typer.Option(
        "--retry-delay", metavar="DURATION", help="Before the first of them; twice that each time [default: 1m]"
    ),
]
Late = Annotated[
    str | None, typer.Option("--late", metavar="DURATION", help="From here on a start is late [default: 5m]")
]


def add(
    context: typer.Context,
    name: Job,
    words: Words = None,
    *,
    on: On,
    schedule: Annotated[str, ScheduleText],
    timezone: TimeZone = None,
    app: App = None,
    action: ActionName = None,
    timeout: RunTimeout = None,
    memory: Memory = None,
    overlap: Overlap = None,
    retries: Retries = None,
    retry_delay: RetryDelay = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Run once after the server was down when it was due")
    ] = False,
    late: Late = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Without running it yet: sf cron enable")] = False,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Add a job: a command as an app's user, or an action.

    `sf cron add report --on @app --schedule "15 3 * * *" --app shop -- bin/report --all`; no shell reads the command:
    each word reaches the program as it is, and | > && belong into a script of the app.
    """
    session: Session = context.obj
    if app and not action:
        _check_whole(session, words or [], app)
    how = how_of(session, plan, yes, lock_wait, None, safe, confirm_within, no_confirm)
    settings = _settings(schedule, timezone, app, action, timeout, memory, overlap, retries, retry_delay, late)
    values = {**settings, **({"catch_up": True} if catch_up else {}), **({"enabled": False} if disabled else {})}
    return _finish(
        session, session.in_workspace(lambda w: session.flows.cron_add(w, name, on, values, words or [], how)), plan
    )


def edit(
    context: typer.Context,
    name: Job,
    words: Words = None,
    *,
    on: NewOn = None,
    schedule: Annotated[str | None, ScheduleText] = None,
    timezone: TimeZone = None,
    app: App = None,
    action: ActionName = None,
    timeout: RunTimeout = None,
    memory: Memory = None,
    overlap: Overlap = None,
    retries: Retries = None,
    retry_delay: RetryDelay = None,
    catch_up: Annotated[
        bool | None, typer.Option("--catch-up/--no-catch-up", help="Run once after the server was down when it was due")
    ] = None,
    late: Late = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Change what is given of a job, and leave the rest: `sf cron edit report --schedule @daily`."""
    session: Session = context.obj
    if app and not action:
        _check_whole(session, words or [], app)
    how = how_of(session, plan, yes, lock_wait, None, safe, confirm_within, no_confirm)
    settings = _settings(schedule, timezone, app, action, timeout, memory, overlap, retries, retry_delay, late)
    values = {**settings, **({"on": on} if on else {}), **({} if catch_up is None else {"catch_up": catch_up})}

    async def change(workspace: Workspace) -> CommandResult:
        if words and not app and not action:
            known = workspace.fleet.cron.get(name)
            if known and known.app:
                _check_whole(session, words, "")
        return await session.flows.cron_edit(workspace, name, values, words or [], how)

    return _finish(session, session.in_workspace(change), plan)


def enable(
    context: typer.Context,
    name: Job,
    *,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Let a job run on its schedule again, also one that its server has disabled: this vouches for it anew."""
    how = how_of(context.obj, plan, yes, lock_wait, None, safe, confirm_within, no_confirm)
    return _switch(context.obj, name, True, how)


def disable(
    context: typer.Context,
    name: Job,
    *,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Keep a job, with its history, and no longer run it. A run that has begun goes on."""
    how = how_of(context.obj, plan, yes, lock_wait, None, safe, confirm_within, no_confirm)
    return _switch(context.obj, name, False, how)


def remove(
    context: typer.Context,
    name: Job,
    *,
    on: OnJob = None,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    lock_wait: LockWait = "30s",
) -> int:
    """Take a job off its servers, and its stanza out of fleet.toml. A run that goes on is stopped."""
    session: Session = context.obj
    how = how_of(session, plan, yes, lock_wait, None, safe, confirm_within, no_confirm)
    return _finish(session, session.in_workspace(lambda w: session.flows.cron_remove(w, name, on, how)), plan)


def list_(context: typer.Context, on: OnAll = None) -> int:
    """List jobs: what fleet.toml asks for, what servers have, when each runs next and how it ended last."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.cron_list(w, selector=on, report=session.report))
    return session.finish(result if session.options.json else cron_view.jobs(result))


def show(context: typer.Context, name: Job, *, on: OnJob = None) -> int:
    """Show a job as fleet.toml and its servers have it, who installed it, and its last run."""
    session: Session = context.obj
    result = session.in_workspace(lambda w: session.flows.cron_show(w, name, selector=on, report=session.report))
    return session.finish(result if session.options.json else cron_view.job(result))


def next_(
    context: typer.Context,
    name: Job,
    count: Annotated[str, typer.Option("--count", metavar="COUNT", help="How many runs, at most 1000")] = "5",
) -> int:
    """Show the next runs, in the job's time zone and in its servers', and what a change of clocks does. Asks nobody."""
    session: Session = context.obj
    if not (count.isascii() and count.isdecimal() and len(count) <= 4 and 1 <= int(count) <= 1000):
        raise UsageError(f"--count: {count[:20]!a} is not a number from 1 to 1000")
    result = session.in_workspace(lambda w: session.flows.cron_next(w, name, int(count)))
    return session.finish(result if session.options.json else cron_view.next_runs(result))


def run(
    context: typer.Context,
    name: Job,
    *,
    on: OnJob = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it, and do not wait for its end")] = False,
    yes: Yes = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Wait at most this long; the run goes on")
    ] = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Run a job now, as its schedule would, and wait for its end. It ends with 6 when the run does not end well."""
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.cron_run(
            w,
            name,
            selector=on,
            wait=not no_wait,
            wait_s=seconds("--timeout", timeout) if timeout else None,
            approve=session.approver(yes=yes),
            lock_wait_s=seconds("--lock-wait", lock_wait),
            report=session.report,
        )
    )
    return session.finish(result if session.options.json else cron_view.ran(session.terminal, result), mutates=True)


def history(
    context: typer.Context,
    name: Job,
    *,
    on: OnJob = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that did not end well")] = False,
    limit: Limit = "20",
) -> int:
    """List the runs of a job, newest first: when, how long, how they ended, what they used."""
    session: Session = context.obj
    count = count_of(limit)
    if count > 1000:
        raise UsageError(f"--limit: {count} is more than the 1000 runs that servers keep")
    result = session.in_workspace(
        lambda w: session.flows.cron_history(w, name, selector=on, failed=failed, limit=count, report=session.report)
    )
    return session.finish(result if session.options.json else cron_view.history(result))


def logs(
    context: typer.Context,
    name: Job,
    *,
    on: OnJob = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="ID", help="Which run, as `sf cron history` shows it [default: the last]"),
    ] = None,
) -> int:
    """Show what a run wrote: its first and last 32 KiB."""
    session: Session = context.obj
    result = session.in_workspace(
        lambda w: session.flows.cron_logs(w, name, run or "", selector=on, report=session.report)
    )
    return session.finish(result if session.options.json else cron_view.logs(session.terminal, result))


def import_(context: typer.Context, *, on: On, plan: Plan = False, yes: Yes = False) -> int:
    """Read the crontabs of servers, say what becomes of each line, and write what can be taken over into fleet.toml.

    Jobs come in disabled, and no server is changed: the old line goes first, then `sf cron enable JOB`.
    """
    session: Session = context.obj
    approve = session.approver(yes=yes or plan)
    result = session.in_workspace(
        lambda w: session.flows.cron_import(w, on, plan=plan, approve=approve, report=session.report)
    )
    return session.finish(result if session.options.json else cron_view.imported(result))


def _switch(session: Session, name: str, enabled: bool, how: Mapping[str, Any]) -> int:
    # True is what a stanza without the key says.
    values = {"enabled": None if enabled else False}
    result = session.in_workspace(lambda w: session.flows.cron_edit(w, name, values, [], how))
    return _finish(session, result, bool(how["plan"]))


def _check_whole(session: Session, words: Sequence[str], app: str) -> None:
    """Raises UsageError for a command that is not behind `--`: words that are also options of ours are not in it."""
    if len(words) > session.options.after_dashes:
        own = f"--app {app} " if app else ""
        raise UsageError(
            "the command has to stand after --, or options in it would be taken for those of sf",
            hint=f"{own}-- {words[0]} …, at the end of the line",
        )


def _settings(
    schedule: str | None,
    timezone: str | None,
    app: str | None,
    action: str | None,
    timeout: str | None,
    memory: str | None,
    overlap: str | None,
    retries: str | None,
    retry_delay: str | None,
    late: str | None,
) -> dict[str, Any]:
    """What is given, by the keys of the stanza. Raises UsageError."""
    given = {
        "schedule": schedule, "timezone": timezone, "app": app, "action": action, "timeout": timeout, "memory": memory,
        "overlap": overlap, "retries": None, "retry_delay": retry_delay, "late": late,
    }  # fmt: skip
    if retries is not None:
        if not (retries.isascii() and retries.isdecimal() and len(retries) <= 2 and int(retries) <= 10):
            raise UsageError(f"--retries: {retries[:20]!a} is not a number from 0 to 10")
        given["retries"] = int(retries)  # type: ignore[assignment]
    return {key: value for key, value in given.items() if value is not None}


def _finish(session: Session, result: CommandResult, plan: bool) -> int:
    return session.finish(result, mutates=True, planned=plan)


COMMANDS = {
    "add": add, "edit": edit, "enable": enable, "disable": disable, "remove": remove, "list": list_, "show": show,
    "next": next_, "run": run, "history": history, "logs": logs, "import": import_,
}  # fmt: skip
