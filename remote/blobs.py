"""Files that come with a command, each named by its hash: taken in before anything is burned."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time

import layout
from channel import Channel, upload_deadline
from messages import Blob, Command, Denied
from request import check_disk


def receive(channel: Channel, command: Command, limit: int) -> str:
    """The folder with the blobs; "" without any. `limit` is what the action takes, in bytes. Disk budget first, then
    the go-ahead. Raises Denied or Refused.
    """
    if not command.blobs:
        return ""
    size = sum(blob.size for blob in command.blobs)
    if size > limit:
        raise Denied("bad-params", f"{command.action} takes at most {limit} bytes of blobs")
    check_disk(size)
    folder = tempfile.mkdtemp(prefix=f"{command.op_id}-", dir=layout.BLOBS)
    try:
        channel.send(b"G", b"{}")
        deadline = upload_deadline(size)
        for blob in command.blobs:
            _receive_one(channel, f"{folder}/{blob.sha256}", blob, deadline)
        os.chmod(folder, 0o755)  # noqa: S103  the sandbox shows this folder, and it alone, to the app's user
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def sweep() -> None:
    """Remove what a power cut left behind. A folder's time is that of its last new file; no run lasts for a day."""
    for name in os.listdir(layout.BLOBS):
        folder = f"{layout.BLOBS}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if os.stat(folder).st_mtime < time.time() - 86400:
                shutil.rmtree(folder, ignore_errors=True)


def _receive_one(channel: Channel, path: str, blob: Blob, deadline: float) -> None:
    digest, left = hashlib.sha256(), blob.size
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            while left:
                data = channel.read(min(left, 1 << 18), deadline)
                digest.update(data)
                file.write(data)
                left -= len(data)
            os.fchmod(file.fileno(), 0o444)
    except OSError as error:
        raise Denied("disk-full", f"a blob cannot be stored: {error.strerror}") from None
    if digest.hexdigest() != blob.sha256:
        raise Denied("bad-frame", "a blob is not what the command committed to")
