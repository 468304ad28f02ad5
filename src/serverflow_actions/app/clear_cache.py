"""Empty an app's caches."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.apps import existing_app
from ..kit.steps import EmptyDirectory
from ._shared import NAME


@action(
    "app.clear-cache",
    "Empty the folder `cache` in each of an app's data folders",
    kind="change",
    profile="app",
    run_as="app",
    params=[NAME],
)
def clear_cache(params: Params, probe: Probe) -> Steps:
    for folder in existing_app(probe, params.name).data:
        yield EmptyDirectory(f"{folder}/cache")
