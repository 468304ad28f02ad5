"""Files that hold a private key: made once, never overwritten, and read only while nobody else can."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ConfigError

_LONGEST = 64 * 1024


def create(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a new file: all of it or, when something ends us before, nothing under its name.

    Raises ConfigError when it exists or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # what an interrupted run left
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)  # unlike rename(2) it replaces nothing
        finally:
            temporary.unlink()
    except FileExistsError:
        raise ConfigError(f"{path} exists and is kept", hint="move it away, or choose another name") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def read(path: Path, head: str = "", hint: str = "") -> str:
    """Read a private key's file, which begins with `head`; `hint` is for one that does not. The open file is asked for
    its mode, so that it cannot be another one by then.

    Raises ConfigError when it cannot be read, is no such key, or is open to others (ssh(1) refuses those too).
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_LONGEST)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    text = data.decode("ascii", "replace")
    if not text.isascii() or not text.strip().startswith(head):  # told before its mode, which may be quite right
        raise ConfigError(f"{path} is not a private key" + (" in OpenSSH's format" if head else ""), hint=hint)
    if mode & 0o077:
        raise ConfigError(f"{path} is open to others (mode {mode:04o})", hint=f"chmod 600 {path}")
    return text


def read_public(path: Path) -> str:
    """The first line of a public key's file, which anyone may read. Raises ConfigError."""
    try:
        with path.open(encoding="ascii") as file:
            return file.readline(_LONGEST).strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a public key") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
