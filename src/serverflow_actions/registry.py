"""Which actions exist: an area is a folder, an action is a file in it. Read by the CLI and by the build of registry.json."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Dict, Iterator, List

from .kit.spec import Action

_HERE = Path(__file__).parent


def areas() -> List[str]:
    """Area names, sorted."""
    return sorted(p.name for p in _HERE.iterdir() if (p / "__init__.py").is_file() and p.name != "kit")


def verbs(area: str) -> List[str]:
    """Action verbs of an area, sorted."""
    return sorted(p.stem.replace("_", "-") for p in (_HERE / area).glob("[a-z]*.py"))


def load(name: str) -> Action:
    """The action of that name. Raises KeyError when there is none."""
    area, _, verb = name.partition(".")
    if area not in areas() or verb not in verbs(area):
        raise KeyError(name)
    return find(vars(importlib.import_module(module(name))), name)


def find(attributes: Dict[str, Any], name: str) -> Action:
    """The action that a module defines: one a module, named after the module."""
    found = [value for value in attributes.values() if isinstance(value, Action)]
    if [action.name for action in found] != [name]:
        raise TypeError(f"{module(name)} must define exactly one action, {name}")
    return found[0]


def names() -> Iterator[str]:
    """All action names, sorted."""
    return (f"{area}.{verb}" for area in areas() for verb in verbs(area))


def module(name: str) -> str:
    """The module that defines an action."""
    area, _, verb = name.partition(".")
    return f"serverflow_actions.{area}.{verb.replace('-', '_')}"


def manifest() -> Dict[str, Any]:
    """The content of registry.json."""
    return {"v": 1, "actions": {name: load(name).manifest(module(name)) for name in names()}}
