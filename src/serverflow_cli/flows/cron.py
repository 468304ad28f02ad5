"""`sf cron add`, `edit`, `enable`, `disable`, `remove`: edit the stanza of a job, then apply that one part."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit import grammar, schedule, scheduled
from serverflow_actions.kit.spec import Action, BadParams, parse

from ..config.edit import Editor
from ..errors import UsageError
from ..model.result import CommandResult
from ..plan import next_runs
from ..plan.desired import file_value, job_action
from .config import How
from .stanza import edited, run_stanza, unless_changed
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import CronJob

TABLE = "cron"
#: What a stanza holds, and how the command line says it where that is no option of the same name.
_WORDS = {"command": "the command", "params": "KEY=VALUE"}


_UNITS = {
    "size": (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)),
    "duration": (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)),
}


async def add(
    workspace: Workspace, name: str, selector: str, values: Mapping[str, Any], words: Sequence[str], how: How
) -> CommandResult:
    """A new job. `words` are its command line, or the parameters of its action. The same job again is applied again.

    Raises UsageError for another job of that name, and for what cannot be a job.
    """
    workspace.select(selector)
    asked = {
        "on": selector,
        **{key: value for key, value in _with_work(values, words, None).items() if value is not None},
    }
    known = workspace.fleet.cron.get(name)
    if known is not None:
        differs = [key for key, value in checked(workspace, name, asked) if value != getattr(known, key)]
        if differs:
            raise UsageError(
                f"cron.{name} is in fleet.toml already, and differs in {', '.join(sorted(map(_option, differs)))}",
                hint=f"sf cron edit {name} changes it; else give another name",
            )
    return await _apply(workspace, name, asked, how)


async def edit(
    workspace: Workspace, name: str, values: Mapping[str, Any], words: Sequence[str], how: How
) -> CommandResult:
    """Change what is given, and leave the rest of the job. A value of None takes its key out.

    Raises UsageError when the job would stay on servers that it is no longer for: it would go on running there. And
    when it would be another app's, or another action: no server takes one job for another (cron.command, cron.add).
    """
    known = stanza(workspace, name)
    _check_same(name, known, values)
    asked = _with_work(values, words, known)
    if not asked:
        raise UsageError("nothing to change is given", hint=f"such as --schedule: sf cron edit {name} --help")
    if "on" in asked:
        left = [server for server in workspace.select(known.on) if server not in workspace.select(asked["on"])]
        if left:
            on = ",".join(left)
            raise UsageError(
                f"cron.{name} would stay on {', '.join(left)}, and go on running there",
                hint=f'set on = "{asked["on"]}" in fleet.toml, then: sf cron remove {name} --on {shlex.quote(on)}\n'
                "after that: sf apply --only cron",
            )
    return await _apply(workspace, name, asked, how)


def _check_same(name: str, known: CronJob, values: Mapping[str, Any]) -> None:
    """Raises UsageError."""
    was, is_now = known.app or known.action, values.get("app") or values.get("action")
    if is_now and is_now != was:
        what = f"the app {was}" if known.app else f"the action {was}"
        raise UsageError(
            f"cron.{name} is for {what}: servers take no other job in its place",
            hint=f"sf cron remove {name}, then sf cron add {name} …; else sf cron add with another name",
        )


async def remove(workspace: Workspace, name: str, selector: str | None, how: How) -> CommandResult:
    """Take a job off its servers, then its stanza out of fleet.toml."""
    if selector is None:
        selector = stanza(workspace, name, hint=f"if a server still has it: sf cron remove {name} --on SERVER").on
    return await run_stanza(
        workspace,
        registry.load("cron.remove"),
        selector,
        {"name": name},
        plan=how.plan,
        approve=how.approve,
        timeout_s=how.timeout_s,
        lock_wait_s=how.lock_wait_s,
        report=how.report,
        safety=how.safety,
    )


def stanza(workspace: Workspace, name: str, *, hint: str = "") -> CronJob:
    """The job in fleet.toml. Raises UsageError."""
    found = workspace.fleet.cron.get(name)
    if found is None:
        near = _near(name, workspace.fleet.cron)
        raise UsageError(f"fleet.toml has no job {name}", hint=near or hint or "sf cron list")
    return found


def checked(workspace: Workspace, name: str, values: Mapping[str, Any]) -> CronJob:
    """The job that these keys of a stanza make, checked as the server does it. Raises UsageError with the option."""
    from pydantic import ValidationError

    from ..config.explain import explain
    from ..model.fleet import CronJob

    try:
        job = CronJob.model_validate(dict(values))
    except ValidationError as error:
        problems = explain(error, dict(values))
        raise UsageError(
            "\n".join(f"{_option(str(path[0]))}: {message}" if path else message for path, message in problems)
        ) from None
    if job.app and job.app not in workspace.fleet.apps:
        raise UsageError(
            f"--app: fleet.toml has no app {job.app}", hint=_near(job.app, workspace.fleet.apps) or "sf app create"
        )
    next_runs.zone_of(job.timezone or workspace.fleet.timezone)
    action, params = job_action(workspace.fleet, name, job)
    try:
        _check_bounds(registry.load(action), params)
        parse(registry.load(action).params, params)
        if job.action:
            scheduled.check(_schedulable(job.action), params.get("params", []))
    except BadParams as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(str(error), hint=f"sf action show {job.action}") from None
    return job


def _check_bounds(action: Action, params: Mapping[str, Any]) -> None:
    """Sizes and durations that are too small or too large, in the words in which people write them."""
    for param in action.params:
        if param.type not in _UNITS or params.get(param.name) is None:
            continue
        value = grammar.TYPES[param.type](params[param.name])
        least, most = param.minimum, param.maximum
        if (least is not None and value < least) or (most is not None and value > most):
            bounds = [
                f"{word} {_written(param.type, bound)}" for word, bound in (("from", least), ("to", most)) if bound
            ]
            raise UsageError(f"--{param.name} {params[param.name]}: {' '.join(bounds)} is possible")


def _written(kind: str, value: int) -> str:
    """`16MiB`, `7d`: in the largest unit that fits."""
    unit, factor = next((unit, factor) for unit, factor in _UNITS[kind] if value % factor == 0)
    return f"{value // factor}{unit}"


async def _apply(workspace: Workspace, name: str, asked: Mapping[str, Any], how: How) -> CommandResult:
    """Edit the stanza and apply it on all its servers."""
    known = workspace.fleet.cron.get(name)
    merged = {**(known.model_dump(exclude_unset=True) if known else {}), **asked}
    job = checked(workspace, name, {key: value for key, value in merged.items() if value is not None})

    def change(editor: Editor) -> None:
        editor.set_entry(TABLE, name, asked)

    note = _what_next(workspace, name, job)

    def noted(result: CommandResult) -> CommandResult:
        good = any(not server.error for server in result.servers)
        return replace(result, notes=(*result.notes, note)) if good else result

    done = await edited(
        workspace,
        unless_changed(workspace, TABLE, name, change),
        lambda key: key == f"cron.{name}",
        job.on,
        how.plan,
        lambda planned: how.approve(noted(planned)),
        how.timeout_s,
        how.lock_wait_s,
        how.report,
        how.safety,
    )
    return noted(done)


def _with_work(values: Mapping[str, Any], words: Sequence[str], known: CronJob | None) -> dict[str, Any]:
    """The values with what the words say: a command line, or an action's parameters; they go instead of the old ones.

    Raises UsageError.
    """
    app, action = values.get("app"), values.get("action")
    if app and action:
        raise UsageError(
            "--app and --action: a job is one or the other",
            hint="--app APP -- COMMAND …\n--action ACTION KEY=VALUE …",
        )
    if not app and not action and known:
        if not words:
            return dict(values)
        app, action = known.app, known.action
    if action:
        if values.get("memory"):
            raise UsageError("--memory is for commands: an action brings its own limit", hint="leave it out")
        if known and known.action == action and not words:
            return {**values, "action": action}
        return {**values, "action": action, "params": _params(words)}
    if not app:
        raise UsageError(
            "what the job does is missing",
            hint="a command of an app: --app APP -- COMMAND …\nan action: --action service.restart unit=nginx",
        )
    if not words and not (known and known.command):
        raise UsageError("the command is missing", hint=f"at the end of the line: --app {app} -- bin/report --all")
    if len(words) == 1 and " " in words[0]:
        raise UsageError(
            f"the command is one word, {words[0][:60]!a}: no shell takes it apart",
            hint=f"-- {words[0]}, without quotes",
        )
    return {**values, "app": app, **({"command": list(words)} if words else {})}


def _params(words: Sequence[str]) -> Any:
    for word in words:
        if "=" not in word:
            raise UsageError(
                f"{word[:60]!a} is not KEY=VALUE, as an action's parameters are",
                hint="a command is --app APP -- COMMAND …, without --action",
            )
    return file_value("cron.add", "params", list(words)) or None


def _schedulable(name: str) -> Action:
    try:
        return registry.load(name)
    except KeyError:
        hint = _near(name, list(registry.names())) or "sf action list"
        raise UsageError(f"--action: no action has the name {name!r}", hint=hint) from None


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1)
    return f"did you mean {near[0]}?" if near else ""


def _option(key: str) -> str:
    """How the command line says a key of the stanza."""
    return _WORDS.get(key) or f"--{key.replace('_', '-')}"


def _what_next(workspace: Workspace, name: str, job: CronJob) -> str:
    if not job.enabled:
        return f"cron.{name} is disabled: sf cron enable {name}"
    zone = job.timezone or workspace.fleet.timezone
    runs = next_runs.next_runs(schedule.parse(job.schedule), zone, int(time.time()), 1)
    return f"next run: {next_runs.local(runs[0], zone)} ({zone})" if runs else "its schedule never comes"
