"""Questions. They go to stderr and need a person: without a terminal they are refused, never answered by default."""

from __future__ import annotations

import getpass
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from ..errors import UsageError
from .terminal import Terminal
from .text import clean


class Prompts:
    """The questions that a command may ask. `around` keeps the progress display away meanwhile."""

    def __init__(self, terminal: Terminal, around: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._terminal = terminal
        self._around = around

    def confirm(self, question: str, *, otherwise: str = "add --yes") -> bool:
        """Yes or no; no is the default. `otherwise` says what to do where nobody can be asked. Raises UsageError."""
        answer = self._ask(f"{clean(question)} [y/N] ", otherwise)
        return answer.strip().lower() in ("y", "yes")

    def typed(self, question: str, name: str, *, otherwise: str) -> bool:
        """Whether the person typed exactly `name`. Raises UsageError."""
        return self._ask(f"{clean(question)} Type {clean(name)} to go on: ", otherwise).strip() == name

    def text(self, question: str, *, otherwise: str) -> str:
        """A line. Raises UsageError."""
        return self._ask(f"{clean(question)}: ", otherwise).strip()

    def hidden(self, question: str, *, otherwise: str) -> str:
        """A line that is not shown while it is typed. Raises UsageError."""
        self._refuse_without_terminal(question, otherwise)
        with self._around(), _interruptible():
            return getpass.getpass(f"{clean(question)}: ", stream=self._terminal.stderr)

    def _ask(self, question: str, otherwise: str) -> str:
        self._refuse_without_terminal(question, otherwise)
        with self._around(), _interruptible():
            self._terminal.stderr.write(question)
            self._terminal.stderr.flush()
            line = self._terminal.stdin.readline()
        if not line:  # ^D
            self._terminal.err()
        return line

    def _refuse_without_terminal(self, question: str, otherwise: str) -> None:
        if not self._terminal.interactive:
            asked = clean(question).strip().rstrip(":?").removesuffix(" [y/N]")
            raise UsageError(f"nobody can be asked here: {asked}", hint=otherwise, code="no-terminal")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the wait for an answer: asyncio's handler cancels at the next await, and there is none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
