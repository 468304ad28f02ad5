"""Install packages."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import Package


@action(
    "package.install",
    "Install packages; those that are there stay at their version",
    kind="change",
    profile="pkg",
    timeout=1800,
    packages=("*",),
    resource="package.all",
    params=[param("names", "package", "Package names", many=True, positional=True, complete="package")],
)
def install(params: Params, probe: Probe) -> Steps:
    names = tuple(dict.fromkeys(params.names))
    yield Package(names)
    return {"versions": {name: probe.package(name) for name in names}}
