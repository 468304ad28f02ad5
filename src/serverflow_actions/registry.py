"""Which actions exist: an area is a folder, an action is a file in it. The CLI and registry.json are made from here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

from .kit.spec import Action

# os.path and not pathlib: servers load this for each command, and pathlib takes longer than all the rest of it.
_HERE = os.path.dirname(__file__)


def areas() -> list[str]:
    """Area names, sorted."""
    return sorted(name for name in os.listdir(_HERE) if name != "kit" and os.path.isfile(f"{_HERE}/{name}/__init__.py"))


def verbs(area: str) -> list[str]:
    """Action verbs of an area, sorted."""
    files = (name for name in os.listdir(f"{_HERE}/{area}") if name[0].isalpha() and name.endswith(".py"))
    return sorted(name[:-3].replace("_", "-") for name in files)


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
