"""Which versions of packages are installed."""

from __future__ import annotations

from typing import Any

from ..kit import Params, Probe, action, param
from ..kit.steps.package import require_dpkg


@action(
    "package.list",
    "Show the installed and the newest version of packages",
    kind="read",
    params=[param("names", "package", "Package names", many=True, positional=True, complete="package")],
)
def list_packages(params: Params, probe: Probe) -> dict[str, Any]:
    require_dpkg(probe)
    return {
        "packages": [
            {"name": name, "installed": probe.package(name), "candidate": probe.candidate(name)}
            for name in dict.fromkeys(params.names)
        ]
    }
