"""Bring every package up to date."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, Steps, action
from ..kit.steps import PackageLists, Upgrade
from ..kit.steps.package import require_dpkg, upgradable


@action(
    "system.update",
    "Refresh the package lists and upgrade every package",
    kind="change",
    profile="pkg",
    timeout=3600,
    packages=("*",),
)
def update(_: Params, probe: Probe) -> Steps:
    require_dpkg(probe)
    yield PackageLists()
    packages = upgradable(probe)
    yield Upgrade()
    return _report(probe, packages)


def _report(probe: Probe, packages: dict[str, Any]) -> dict[str, Any]:
    return {
        "packages": {name: list(versions) for name, versions in packages.items()},
        "reboot_required": probe.stat("/run/reboot-required") is not None,
    }
