"""A text in a person's editor. It is theirs: until all is well with it, it stays in a file."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SfError, UsageError
from ..ui.terminal import Terminal

#: What a shell reports of a program that SIGINT ended.
_INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)


def editor_for(terminal: Terminal) -> str:
    """$VISUAL, $EDITOR or vi. Raises UsageError where nobody could use the last."""
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not chosen and not terminal.interactive:
        raise UsageError(
            "nobody can edit here", hint="set EDITOR to a program, or: sf config apply KIND FILE", code="no-terminal"
        )
    return chosen or "vi"


class Draft:
    """A text while it is edited. `to_stderr` says that stdout is for something else than the editor.

    `needed` is whether the text is kept; then `path` says where, and until then it is None.
    """

    def __init__(self, name: str, editor: str, *, to_stderr: bool) -> None:
        self.needed = True
        self.path: Path | None = None
        self._name = name
        self._editor = editor
        self._stdout = 2 if to_stderr else None
        self._file = Path()
        self._first: str | None = None

    @contextmanager
    def within(self, parent: Path) -> Iterator[None]:
        """Keep it in a folder of its own below `parent`, and at the end remove it unless it is still `needed`.

        It is on the disk from the start, so that it outlives a terminal that is closed. Raises SfError.
        """
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{self._name}-", dir=parent))  # mode 0700
        except OSError as error:
            raise SfError(f"{parent} cannot be written: {error.strerror}") from None
        self._file = folder / f"{self._name}.conf"
        try:
            yield
        finally:
            self._settle(folder)

    def edited(self, text: str) -> str:
        """The text as it comes out of the editor. Raises SfError; KeyboardInterrupt when the editor ended so."""
        self._first = text if self._first is None else self._first
        self._file.write_text(text, encoding="utf-8", newline="")
        self._file.chmod(0o600)
        try:
            with _left_to_the_editor():
                done = subprocess.run([*shlex.split(self._editor), str(self._file)], stdout=self._stdout, check=False)
        except (OSError, ValueError) as error:
            raise SfError(f"the editor {self._editor!a} cannot be started: {error}; nothing was done") from None
        if done.returncode in _INTERRUPTED:
            raise KeyboardInterrupt
        if done.returncode:
            raise SfError(f"the editor {self._editor!a} failed (exit code {done.returncode}); nothing was done")
        try:
            return self._file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SfError(f"what the editor left cannot be read: {error}; nothing was done") from None

    def _settle(self, folder: Path) -> None:
        try:
            edited = self._first is not None and self._file.read_bytes() != self._first.encode()
        except OSError:
            edited = False
        if not self.needed or not edited:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._file.chmod(0o600)  # an editor may have made it anew
        self.path = self._file


@contextmanager
def _left_to_the_editor() -> Iterator[None]:
    """Ctrl-C goes to both of us, and only the editor knows what it means. It does not inherit a handler, as it would
    SIG_IGN.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
