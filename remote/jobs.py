"""Run an action's plan through the engine and turn whatever happens into one result message.

Used by the worker (changes and tasks) and by the confined reader (reads and check mode).
"""

from __future__ import annotations

import importlib
import json
from typing import Any, Callable

from serverflow_actions import registry
from serverflow_actions.kit import engine
from serverflow_actions.kit.host import Broker, HostError, LocalHost, LocalProbe
from serverflow_actions.kit.spec import Action, Params, parse
from serverflow_actions.kit.undo import Footprint

BLOBS = "/run/serverflow-blobs"


def load(name: str, module: str) -> Action:
    """The action that the signed registry names."""
    return registry.find(vars(importlib.import_module(module)), name)


def parsed(action: Action, job: dict[str, Any], secrets: dict[str, str]) -> Params:
    """Wire values through the one door."""
    return parse(action.params, {**job["params"], **secrets})


def run(job: dict[str, Any], link: Any, secrets: dict[str, str]) -> dict[str, Any]:
    """A change or a task, for real."""
    action = load(job["action"], job["module"])
    broker: Broker = link
    safe, written = _circumstances(job)

    def arm(footprint: Footprint) -> None:
        broker.call("arm", **footprint._asdict())

    def body() -> engine.Outcome:
        params = parsed(action, job, secrets)
        probe = LocalProbe(broker, blobs=BLOBS, safe=safe, written=written)
        host = LocalHost(broker, blobs=BLOBS, safe=safe, written=written)
        return engine.run(action, params, probe, host, link.send, job["plan_sha256"] or "", arm if safe else None)

    return _result(body)


def forecast(job: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
    """Check mode."""
    action = load(job["action"], job["module"])
    safe, written = _circumstances(job)
    return _result(
        lambda: engine.forecast(action, parsed(action, job, secrets), LocalProbe(safe=safe, written=written))
    )


def _circumstances(job: dict[str, Any]) -> tuple[bool, dict[str, str]]:
    """Whether it is a safe change, and what ServerFlow last wrote, path by path."""
    return job.get("confirm_s", 0) > 0, job.get("written", {})


def read(job: dict[str, Any], on_chunk: Callable[[bytes], None]) -> dict[str, Any]:
    """A read; one that streams yields chunks of bytes."""
    action = load(job["action"], job["module"])

    def body() -> engine.Outcome:
        params = parsed(action, job, {})
        probe = LocalProbe(written=_circumstances(job)[1])
        if not action.streams:
            return engine.read(action, params, probe)
        for chunk in action.plan(params, probe):
            on_chunk(chunk)
        return engine.Outcome()

    return _result(body)


def _result(body: Callable[[], engine.Outcome]) -> dict[str, Any]:
    """The one place where what an action raises becomes an outcome."""
    outcome: engine.Outcome | None = None
    code, message = "", ""
    data: dict[str, Any] = {}
    try:
        outcome = body()
        json.dumps(outcome.data)
    except engine.PlanChanged as error:
        code, message = error.code, str(error)
        data = {"forecast": [change.as_json() for change in error.forecast]}
    except engine.Refused as error:
        code, message = error.code, str(error)
    except HostError as error:
        code, message = "action-failed", str(error)
    except MemoryError:
        code, message = "out-of-memory", "the action needs more memory than it may use"
    except Exception as error:  # an action's bug must still give a signed answer
        code, message = "action-failed", f"internal error in the action: {type(error).__name__}: {error}"
    if outcome is None or code:
        return {
            "t": "end",
            "code": code,
            "message": message[:2000],
            "changes": [],
            "data": data,
            "secrets": {},
            "plan_sha256": "",
        }
    return {
        "t": "end",
        "code": "",
        "message": "",
        "changes": [change.as_json() for change in outcome.changes],
        "data": outcome.data,
        "secrets": outcome.secrets,
        "plan_sha256": outcome.plan_sha256,
    }
