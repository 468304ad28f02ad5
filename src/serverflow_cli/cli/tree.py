"""The command tree. An area is imported, and a command built, when the line names it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from serverflow_actions import registry

from ..errors import UsageError
from .areas import Area, areas
from .listing import listing
from .options import GLOBAL_HELP

SETTINGS: dict[str, Any] = {"help_option_names": ["--help", "-h"]}


class _AsTyped:
    """Values as they were typed. All our parameters are texts or flags, checked by kit.grammar; typer would load
    pydantic to find out that a text is a text, which takes longer than asking a server.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002  (typer's signature)
        if param.multiple or param.nargs == -1:
            return list(value or ())
        return value


class Command(TyperCommand):
    """A command. Its usage line shows what must be given: `sf service restart UNIT --on SELECTOR [OPTIONS]`.

    Its help also lists the global options, which are taken off the line before it is parsed.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        for param in params:
            # Where typer has no such attribute any more, it converts by itself, only slower.
            if hasattr(param, "_runtime_param"):
                param._runtime_param = _AsTyped()
        return params

    def collect_usage_pieces(self, _context: Any) -> list[str]:
        return [*_usage_pieces(self.params), "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments = [(argument_name(p), p.help or "") for p in self.params if isinstance(p, TyperArgument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        options = (p.get_help_record(ctx) for p in self.get_params(ctx) if p.param_type_name == "option")
        with formatter.section("Options"):
            formatter.write_dl([record for record in options if record])
        _write_global_options(formatter)


class Group(TyperGroup):
    """Commands that are found by name, one at a time. Without a name: the help, as an error.

    Its help is a listing of the catalogue. It is taken off the line here: as an option, typer would import pydantic to
    make sure that it is a bool.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] in (["--help"], ["-h"]):
            ctx.obj.terminal.out(listing(_area_of(ctx)))
            ctx.exit()
        if not args:
            if ctx.obj.options.json:
                raise UsageError(f"`{ctx.command_path}` needs a command", hint=f"see `{ctx.command_path} --help`")
            ctx.obj.terminal.err(listing(_area_of(ctx)))
            ctx.exit(UsageError.exit_code)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"did you mean `{ctx.command_path} {near[0]}`?" if near else f"see `{ctx.command_path} --help`"
            raise UsageError(f"`{ctx.command_path}` has no command {args[0]!r}", hint=hint)
        return args[0], command, args[1:]


class RootGroup(Group):
    """`sf` itself."""

    def list_commands(self, _context: Any) -> list[str]:
        return [area.name for area in areas()]

    def get_command(self, _context: Any, cmd_name: str) -> Any:
        area = next((area for area in areas() if area.name == cmd_name), None)
        return area and _area_command(area)


class AreaGroup(Group):
    """The commands of one area: `written` by hand, or one for each of its actions in the registry.

    Where commands are written by hand, what the area has in the registry is their other half and no command itself,
    unless the area is `derived`: then what is not written by hand comes from the registry.
    """

    def __init__(self, area: Area, written: dict[str, Any] | None = None) -> None:
        super().__init__(name=area.name, commands=written or {}, add_help_option=False, rich_markup_mode=None)
        derived: Iterable[str] = ()
        if written is None or area.derived is True:
            derived = registry.verbs(area.name)
        elif area.derived:
            derived = area.derived
        self._verbs = [verb for verb in derived if verb not in self.commands]

    def list_commands(self, _context: Any) -> list[str]:
        return [*self.commands, *self._verbs]

    def get_command(self, _context: Any, cmd_name: str) -> Any:
        if cmd_name in self._verbs:
            from .generated import action_function

            action = registry.load(f"{self.name}.{cmd_name}")
            return build(action_function(action), action.verb, f"{action.summary}.")
        return self.commands.get(cmd_name)


def root() -> RootGroup:
    """The tree."""
    return RootGroup(name="sf", add_help_option=False, rich_markup_mode=None)


def build(function: Callable[..., Any], name: str, help: str | None = None) -> Any:
    """The command of a function with typer's annotations; the docstring is its help."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, cls=Command, help=help, context_settings=dict(SETTINGS))(function)
    return typer.main.get_command(app)


def first_sentence(help: str | None) -> str:
    """What a listing shows of a command's help."""
    paragraph = " ".join((help or "").split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")


def argument_name(param: Any) -> str:
    """`UNIT`, `[PATH]`, `NAME…`."""
    name = str(param.metavar or param.name.upper()) + ("…" if param.nargs == -1 else "")
    return name if param.required or name.startswith("[") else f"[{name}]"


def _area_of(ctx: Any) -> str:
    """`dns`, `dns zone`; "" for `sf` itself."""
    return f"{_area_of(ctx.parent)} {ctx.info_name}".strip() if ctx.parent else ""


def _usage_pieces(params: list[Any]) -> Iterator[str]:
    yield from (argument_name(p) for p in params if p.param_type_name == "argument")
    required = (p for p in params if p.param_type_name == "option" and p.required)
    yield from (p.opts[0] if p.is_flag else f"{p.opts[0]} {p.metavar}" for p in required)


def _area_command(area: Area) -> Any:
    """A group, or for `init`, `plan` and `apply` the command itself."""
    if not area.module:
        return AreaGroup(area)
    functions: dict[str, Callable[..., Any]] = importlib.import_module(f".{area.module}", __package__).COMMANDS
    if area.name in functions:
        return build(functions[area.name], area.name)
    return AreaGroup(area, {name: _written(name, what) for name, what in functions.items()})


def _written(name: str, what: Callable[..., Any] | dict[str, Callable[..., Any]]) -> Any:
    """A command, or a group of them: `sf dns zone list`."""
    if callable(what):
        return build(what, name)
    commands = {verb: build(function, verb) for verb, function in what.items()}
    return Group(name=name, commands=commands, add_help_option=False, rich_markup_mode=None)


def _write_global_options(formatter: Any) -> None:
    with formatter.section("Global options"):
        formatter.write_dl(GLOBAL_HELP)
