"""What a command gets: global options, terminal and flows; and how it runs a flow and shows what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry

from ..errors import SfError, UsageError
from ..model.result import CommandResult, ServerResult
from ..ui.envelope import dumps, envelope, output_line
from ..ui.news import Shown, shown_in, without_details, without_known
from ..ui.plan_view import print_changes
from ..ui.progress import Progress
from ..ui.prompts import Prompts
from ..ui.result_view import print_error, print_note, print_result
from ..ui.stream import Lines
from ..ui.terminal import Terminal
from ..ui.text import clean, clean_block
from .flow_calls import FlowCalls
from .options import GlobalOptions
from .signals import like_ctrl_c

if TYPE_CHECKING:
    from ..flows.workspace import Workspace


class Session:
    """One invocation of `sf`."""

    def __init__(self, options: GlobalOptions, terminal: Terminal, flows: FlowCalls) -> None:
        self.options = options
        self.terminal = terminal
        self.flows = flows
        #: The signal that ended it, other than Ctrl-C; 0 for none.
        self.ended_by = 0
        self.progress = Progress(terminal, verbose=options.verbose)
        self._lines = Lines()
        self._told: set[str] = set()  # notes that stood beside a question, as they were shown
        self._shown: set[Shown] = set()  # changes that a question was about
        #: Show all that an action tells after a change, not only what is news to whoever asked for it.
        self.tells_all = False
        self.prompts = Prompts(terminal, self.progress.paused)

    @property
    def ask(self) -> Prompts | None:
        """For questions that have another way out, such as a passphrase: None where nobody can be asked."""
        return self.prompts if self.terminal.interactive else None

    def report(self, event: Mapping[str, Any]) -> None:
        """Hear an event of a flow. `output` is a piece of the result itself and goes to stdout at once."""
        if event.get("t") != "output":
            if event.get("t") != "op" or _goes_on(event):
                self.progress.report(event)
            return
        server, text = str(event.get("server", "")), str(event.get("text", ""))
        if self.options.json:
            self.terminal.out(dumps(output_line(server, text)))
        else:
            for line in self._lines.feed(server, text):
                self._print_line(server, line)
        self.terminal.stdout.flush()

    def _print_line(self, server: str, line: str) -> None:
        """A line of output; it tells its server where there are several."""
        self.progress.erase()
        prefix = f"{clean(server)}: " if len(self.progress.servers) > 1 else ""
        self.terminal.out(prefix + clean_block(line))

    def in_workspace(self, use: Callable[[Workspace], Awaitable[CommandResult]]) -> CommandResult:
        """Open the fleet and run a flow in it."""

        async def opened() -> CommandResult:
            async with self.flows.workspace(self.ask) as workspace:
                return await use(workspace)

        return self.run(opened())

    def run(self, work: Awaitable[CommandResult]) -> CommandResult:
        """Run a flow to its end with the progress display beside it."""
        import asyncio

        async def displayed() -> CommandResult:
            display = asyncio.create_task(self.progress.animate())
            try:
                return await work
            finally:
                display.cancel()
                with suppress(asyncio.CancelledError):
                    await display

        def heard(number: int) -> None:
            self.ended_by = number

        with like_ctrl_c(heard):
            return asyncio.run(displayed())

    def approver(
        self, *, yes: bool, name: str = "", confirm: str | None = None, early: bool = True
    ) -> Callable[[CommandResult], bool]:
        """What a flow asks before it changes something. With `name`, that name has to be typed, or given as `confirm`.

        Raises UsageError here where nobody can be asked later: before any server was contacted. Without `early` only
        the question raises it: for a flow that often finds nothing to change, and then asks nothing.
        """
        if confirm is not None and confirm != name:
            raise UsageError(f"--confirm {confirm!r} is not the name that this is about", hint=f"--confirm {name}")
        settled = confirm is not None if name else yes
        otherwise = f"add --confirm {name}" if name else "add --yes"
        if early and not settled and not self.terminal.interactive:
            raise UsageError("this changes servers, and nobody can be asked here", hint=otherwise, code="no-terminal")

        def approve(planned: CommandResult) -> bool:
            if settled:
                return True
            with self.progress.paused():
                print_changes(self.terminal, planned.servers, self.terminal.stderr, planned=True)
                for note in dict.fromkeys((*planned.notes, *_of_rows(planned))):
                    print_note(self.terminal, note)
                    self._told.add(note)
                self._shown |= shown_in(planned.servers)
            if name:
                return self.prompts.typed("This cannot be undone.", name, otherwise=otherwise)
            return self.prompts.confirm("Go on?", otherwise=otherwise)

        return approve

    def finish(
        self, result: CommandResult, *, mutates: bool = False, planned: bool = False, error: SfError | None = None
    ) -> int:
        """Show a result; its exit code. `error` is a failure of the whole beyond those of its servers."""
        if self.options.json:
            self.terminal.out(dumps(envelope(result, error)))
        else:
            for server, line in self._lines.end():
                self._print_line(server, line)
            if mutates and result.fleet:
                print_note(self.terminal, f"fleet {result.fleet}")
            shown = self._as_shown(result, changes=mutates or planned)
            print_result(self.terminal, shown, changes=mutates or planned, planned=planned)
            if error:
                print_error(self.terminal, error)
        return error.exit_code if error else result.exit_code

    def _as_shown(self, result: CommandResult, *, changes: bool) -> CommandResult:
        """Without what a question has told already, and after a change without what is no news."""
        notes = tuple(note for note in result.notes if note not in self._told)
        servers = tuple(without_details(server, self._shown) for server in result.servers)
        if changes and not self.tells_all:
            servers = tuple(map(without_known, servers))
        return replace(result, servers=tuple(map(self._without_told, servers)), notes=notes)

    def _without_told(self, row: ServerResult) -> ServerResult:
        if not row.reply:
            return row
        notes = tuple(note for note in row.reply.notes if _of_row(row, note) not in self._told)
        return replace(row, reply=replace(row.reply, notes=notes))

    def fail(self, error: SfError) -> int:
        """Show an error that ended the command; the exit code."""
        if self.options.json:
            self.terminal.out(dumps(envelope(CommandResult(), error)))
        else:
            print_error(self.terminal, error)
        return error.exit_code


def _of_rows(planned: CommandResult) -> Iterator[str]:
    """What is noted of each server or zone."""
    return (_of_row(row, note) for row in planned.servers if row.reply for note in row.reply.notes)


def _of_row(row: ServerResult, note: str) -> str:
    return f"{row.name}: {note}"


def _goes_on(event: Mapping[str, Any]) -> bool:
    """Whether a server that was asked goes on when nobody listens any more: reads and plans end with the connection."""
    return event.get("mode") == "run" and registry.load(str(event.get("action"))).kind != "read"
