"""Write what is derived from the code: catalogue.json for completion, docs/reference, and the schema of events.

    python -m serverflow_cli.cli.generate [FOLDER OF THE CHECKOUT]

A test compares the files with what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from serverflow_actions import registry
from serverflow_actions.kit import events
from serverflow_actions.kit.rrset import TYPES
from serverflow_actions.kit.spec import Action, Param

from ..ui.envelope import json_schema
from . import reference
from .areas import areas
from .options import GLOBAL_HELP
from .tree import first_sentence, root

#: What a value is completed from, by how help writes it. A parameter of an action says so itself (`complete`), or its
#: type does. "" is a value that nothing is known about.
_KINDS = {
    "SELECTOR": "selector", "SERVER": "server", "ROLE": "role", "TAG": "tag", "ACTION": "action", "AREA": "area",
    "KIND": "|".join(next(p.choices for p in registry.load("config.set").params if p.name == "kind")),
    "FILE": "file", "JOB": "cron", "CHANNEL": "channel", "APP": "app", "PATH": "file", "[PATH]": "file",
    "KEY=VALUE": "assignment", "TYPE": "|".join(TYPES), "ZONE": "zone", "[ZONE]": "zone", "[FILE]": "file",
    "PROVIDER": "provider", "CERTIFICATE": "cert", "[CERTIFICATE]": "cert", "ROUTE": "route",
}  # fmt: skip
_TYPE_KINDS = {"unit": "unit", "boolean": "true|false"}


def files() -> dict[str, str]:
    """All generated files, by path in the checkout."""
    schema = json.dumps(json_schema(), indent=2) + "\n"
    pages = {f"docs/reference/{name}": text for name, text in reference.pages(list(commands())).items()}
    return {
        "src/serverflow_cli/cli/catalogue.json": json.dumps(catalogue(), indent=0, ensure_ascii=False) + "\n",
        "docs/reference/envelope.schema.json": schema,
        "docs/events.schema.json": json.dumps(events.schema(), indent=2) + "\n",
        **pages,
    }


def commands() -> Iterator[tuple[str, Any, typer.Context, Action | None]]:
    """Each command of the tree: `service restart`, the command, its context, its action if it has one."""
    tree, derived = root(), {area.name for area in areas() if area.derived is True}
    top = typer.Context(tree, info_name="sf")
    for name in tree.list_commands(top):
        command = tree.get_command(top, name)
        context = typer.Context(command, info_name=name, parent=top)
        if not hasattr(command, "list_commands"):
            yield name, command, context, None
            continue
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            written = verb in command.commands and (name not in derived or verb not in registry.verbs(name))
            action = None if written else registry.load(f"{name}.{verb}")
            inner = typer.Context(found, info_name=verb, parent=context)
            if not hasattr(found, "list_commands"):
                yield f"{name} {verb}", found, inner, action
                continue
            for word in found.list_commands(inner):
                leaf = found.get_command(inner, word)
                yield f"{name} {verb} {word}", leaf, typer.Context(leaf, info_name=word, parent=inner), None


def catalogue() -> dict[str, Any]:
    """What completion knows: areas, commands and, for each place on the line, what its value is completed from."""
    return {
        "areas": {area.name: [area.group, area.summary] for area in areas()},
        "global_help": [list(row) for row in GLOBAL_HELP],
        "global": dict(_global_options()),
        "commands": {path: _entry(command, context, action) for path, command, context, action in commands()},
    }


def _entry(command: Any, context: typer.Context, action: Action | None) -> dict[str, Any]:
    kinds = {p.name.replace("-", "_"): kind_of(p) for p in action.params} if action else {}
    params = command.get_params(context)
    arguments = [p for p in params if p.param_type_name == "argument"]
    options = {
        name: ["" if p.is_flag else kinds.get(p.name) or _kind_in(p.metavar) or "value", p.help]
        for p in params
        if p.param_type_name == "option"
        for name in (*p.opts, *p.secondary_opts)
    }
    return {
        "help": first_sentence(command.help),
        "action": action.name if action else "",
        "arguments": [[p.name, kinds.get(p.name) or _kind_in(p.metavar)] for p in arguments],
        "many": bool(arguments) and arguments[-1].nargs == -1,
        "options": options,
        "params": {p.name: [kind_of(p), p.help] for p in action.params if not p.secret} if action else {},
    }


def _kind_in(metavar: str | None) -> str:
    """What a metavar says of that: `tls|none` are the values themselves; "" for most."""
    return _KINDS.get(metavar or "", metavar if metavar and "|" in metavar else "")


def kind_of(param: Param) -> str:
    """What a parameter's value is completed from; "value" when nothing is known."""
    if param.secret:
        return ""
    return param.complete or "|".join(param.choices) or _TYPE_KINDS.get(param.type, "value")


def _global_options() -> Iterator[tuple[str, list[str]]]:
    for names, help in GLOBAL_HELP:
        for name in names.split(", "):
            option, _, metavar = name.partition(" ")
            yield option, [_KINDS[metavar] if metavar else "", help]


def main(checkout: Path) -> None:
    """Write the files, and remove pages of areas that are gone."""
    written = files()
    for path, text in written.items():
        target = checkout / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for page in (checkout / "docs/reference").glob("*.md"):
        if f"docs/reference/{page.name}" not in written:
            page.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
