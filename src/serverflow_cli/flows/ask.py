"""What a flow may ask a person; the command line answers it on a terminal and refuses elsewhere."""

from __future__ import annotations

from typing import Protocol


class Ask(Protocol):
    """`otherwise` says what to do where nobody can be asked; the implementation raises UsageError with it."""

    def confirm(self, question: str, *, otherwise: str = ...) -> bool: ...

    def text(self, question: str, *, otherwise: str) -> str: ...

    def hidden(self, question: str, *, otherwise: str) -> str: ...
