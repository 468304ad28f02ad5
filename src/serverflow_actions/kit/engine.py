"""The loop that every action goes through. Check mode is the loop without its last line."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Callable, NamedTuple, Protocol

from .change import Change, forecast_hash
from .host import Host, Probe
from .refused import Refused as Refused
from .spec import Action, Params
from .undo import Footprint, covers, total

Emit = Callable[[dict[str, Any]], None]
#: Keeps what a safe change is going to touch, and starts its countdown; raises HostError when that cannot be done.
Arm = Callable[[Footprint], None]


class Step(Protocol):
    """One resource. Only steps know how to check, diff and apply."""

    def check(self, probe: Probe) -> Change | None:
        """What `apply` would change; None when all is as it should be."""

    def apply(self, host: Host) -> None:
        """Make it so. Called only right after `check` returned a change; raises HostError."""

    def footprint(self, probe: Probe) -> Footprint:
        """All that `apply` may leave otherwise, as things stand now. Asked only after `check` returned a change.

        Raises Refused (undo.irreversible) where it could not be put back.
        """


#: What the plan function of a change or task returns: steps, and at the end the action's result (a dict or None).
Steps = Generator[Step, None, Any]


class Secret(NamedTuple):
    """A value in an action's result that is shown once and kept out of receipts."""

    value: str


class Outcome:
    """What a run did, or what a plan would do; `footprints` are those of the changes, where the probe is a safe one."""

    def __init__(self, plan_sha256: str = "") -> None:
        self.changes: list[Change] = []
        self.footprints: list[Footprint] = []
        self.data: dict[str, Any] = {}
        self.secrets: dict[str, str] = {}
        self.plan_sha256 = plan_sha256


class PlanChanged(Refused):
    """The server's own forecast is not the one that was approved; `forecast` is what it would do now."""

    def __init__(self, forecast: list[Change]) -> None:
        super().__init__("the server is no longer as it was when the plan was approved", "plan-changed")
        self.forecast = forecast


def read(action: Action, params: Params, probe: Probe) -> Outcome:
    """Run a read action."""
    return _with_data(Outcome(), action.plan(params, probe))


def forecast(action: Action, params: Params, probe: Probe) -> Outcome:
    """The full check pass: what would change, in order, and its hash. Writes nothing: there is no Host here.

    Raises Refused, also for a step that cannot be taken back, where the probe says that the change is a safe one.
    """
    outcome = Outcome()

    def look(step: Step) -> None:
        change = step.check(probe)
        if change:
            outcome.changes.append(change)
            if probe.safe:
                outcome.footprints.append(step.footprint(probe))

    _with_data(outcome, _walk(action.plan(params, probe), look))
    outcome.plan_sha256 = forecast_hash(action.name, outcome.changes)
    return outcome


def run(
    action: Action,
    params: Params,
    probe: Probe,
    host: Host,
    emit: Emit,
    approved: str = "",
    arm: Arm | None = None,
) -> Outcome:
    """Forecast, compare with the approved plan, then do it, probing again just before each step.

    `probe` must be a forecasting one. `emit` hears of each change after it was made, so that a run that fails half-way
    still tells what it did. `arm` makes it a safe change, for which probe and host must be safe ones: it is called
    before anything is written, unless there is nothing to change, and after it only what it was told of is touched.

    Raises PlanChanged before anything was written, Refused and HostError in the middle.
    """
    planned = forecast(action, params, probe)
    if approved and approved != planned.plan_sha256:
        raise PlanChanged(planned.changes)
    outcome = Outcome(plan_sha256=planned.plan_sha256)
    armed: Footprint | None = None
    if arm and planned.changes:
        armed = total(planned.footprints)
        arm(armed)

    def act(step: Step) -> None:
        change = step.check(host)
        if change:
            if arm and not (armed and covers(armed, step.footprint(host))):
                raise Refused("the server is no longer as it was when the change was armed", "plan-changed")
            emit({"t": "step", "doing": f"{change.verb} {change.kind} {change.name}"})
            step.apply(host)
            outcome.changes.append(change)
            emit({"t": "change", "change": change.as_json()})

    return _with_data(outcome, _walk(action.plan(params, host), act))


def _walk(steps: Iterator[Step], visit: Callable[[Step], None]) -> Any:
    """Drive the generator; what it returns is the action's result."""
    try:
        while True:
            visit(next(steps))
    except StopIteration as end:
        return end.value


def _with_data(outcome: Outcome, result: dict[str, Any] | None) -> Outcome:
    for key, value in (result or {}).items():
        if isinstance(value, Secret):
            outcome.secrets[key] = value.value
        else:
            outcome.data[key] = value
    return outcome


def split(name: str) -> tuple[str, str]:
    """Area and verb of an action's name."""
    area, _, verb = name.partition(".")
    return area, verb
