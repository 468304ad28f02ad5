"""Which actions exist: an area is a folder, an action is a file in it. The CLI and registry.json are made from here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .kit.spec import Action

_HERE = Path(__file__).parent


def areas() -> list[str]:
    """Area names, sorted."""
    return sorted(p.name for p in _HERE.iterdir() if (p / "__init__.py").is_file() and p.name != "kit")


def verbs(area: str) -> list[str]:
    """Action verbs of an area, sorted."""
    return sorted(p.stem.replace("_", "-") for p in (_HERE / area).glob("[a-z]*.py"))


def load(name: str) -> Action:
    """The action of that name. Raises KeyError when there is none."""
    area, _, verb = name.partition(".")
    if area not in areas() or verb not in verbs(area):
        raise KeyError(name)
    return find(vars(importlib.import_module(module(name))), name)


def find(attributes: dict[str, Any], name: str) -> Action:
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


def manifest() -> dict[str, Any]:
    """The content of registry.json."""
    return {"v": 1, "actions": {name: load(name).manifest(module(name)) for name in names()}}
