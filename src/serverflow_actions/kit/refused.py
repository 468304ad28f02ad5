"""How an action says no."""

from __future__ import annotations


class Refused(Exception):
    """The action cannot or must not be done here; a sentence for people, and a code from docs/protocol.md."""

    def __init__(self, message: str, code: str = "action-failed") -> None:
        super().__init__(message)
        self.code = code
