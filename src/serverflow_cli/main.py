"""The entry point of `sf`. Nothing but `sys` is imported before it is known what is wanted."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself would cost a fifth of the time of `sf --version`
    from collections.abc import Sequence

    from .cli.session import Session

#: What a shell reports of a program that SIGPIPE ended: 128 + 13.
BROKEN_PIPE = 141


def main() -> int:
    """Run `sf` with the arguments of the process; the exit code."""
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]):
        from . import __version__

        print(f"sf {__version__}")
        return 0
    import os

    if argv[:1] == ["__complete"]:
        from .cli.complete import main as complete

        return complete(argv[1:], os.environ)

    from .cli.listing import listing, wanted

    if (area := wanted(argv)) is not None and (text := listing(area)):
        return _print(text)

    import gc
    from dataclasses import replace

    # While modules load, the usual 700 objects would mean hundreds of collections that find nothing.
    gc.set_threshold(100_000)
    from .cli.flow_calls import FlowCalls
    from .cli.options import take_global_options
    from .cli.session import Session
    from .config.environment import forget_environment, read_environment
    from .errors import UsageError
    from .ui.terminal import process_terminal

    options, rest = take_global_options(argv)
    terminal = process_terminal(os.environ, no_colour=options.no_color)
    settings = read_environment(os.environ)
    forget_environment(os.environ)
    if options.fleet == "":  # an unset variable in a script must not mean the nearest fleet
        return Session(options, terminal, FlowCalls(settings)).fail(UsageError("--fleet: the path is empty"))
    if options.fleet is not None:
        settings = replace(settings, fleet=options.fleet)
    try:
        return run(rest, Session(options, terminal, FlowCalls(settings)))
    finally:
        gc.freeze()  # the interpreter would look at every object once more on its way out: 80 ms


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _reader_is_gone()
    return 0


def run(argv: Sequence[str], session: Session) -> int:
    """Run one command. The only catch-all: whatever goes wrong becomes a line, or a JSON document, and an exit code."""
    from .cli.failures import interrupted
    from .errors import InternalError, SfError

    try:
        try:
            return _invoke(argv, session)
        except SfError as error:
            _trace(session)
            return session.fail(error)
        except KeyboardInterrupt:
            return session.fail(interrupted(session.progress.begun, session.progress.left, session.ended_by))
        except BrokenPipeError:
            raise
        except Exception as error:
            _trace(session)
            return session.fail(InternalError(error))
        finally:
            session.terminal.stdout.flush()
    except BrokenPipeError:
        return _reader_is_gone()
    except OSError:
        if not session.ended_by:
            raise
        _reader_is_gone(2)  # SIGHUP comes when the terminal is gone
        return 128 + session.ended_by


def _invoke(argv: Sequence[str], session: Session) -> int:
    from typer.exceptions import Exit, TyperException

    from .cli.failures import usage_error
    from .cli.tree import root

    tree = root()
    try:
        with tree.make_context("sf", list(argv), obj=session) as context:
            return int(tree.invoke(context) or 0)
    except Exit as end:  # --help
        return end.exit_code
    except TyperException as error:
        raise usage_error(error) from None


def _trace(session: Session) -> None:
    if session.options.debug:
        import traceback

        from .ui.text import clean_block

        session.terminal.err(clean_block(traceback.format_exc()))


def _reader_is_gone(last: int = 1) -> int:
    """`sf … | head`: end quietly, also when the interpreter flushes stdout once more on its way out. With `last` 2,
    stderr too.
    """
    import os

    for stream in range(1, last + 1):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    return BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
