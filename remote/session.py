"""One SSH session: who we are, what we trust, HELLO, and the ways to answer. See docs/protocol.md."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from typing import Any

import chain
import layout
import receipt
import store
import trust_store
from authorise import Pending
from channel import Channel
from messages import Denied, Trust, parse_trust
from signing import HELLO, RECEIPT, Identity

#: What an answer says of a command that could not be read, and of a frame that is none.
BLANK: dict[str, Any] = {
    "challenge": "",
    "server_id": "",
    "op_id": "",
    "action": "",
    "action_version": 0,
    "mode": "run",
    "actor": "",
    "prev_receipt": "",
}


class Session:
    """What one connection knows: its nonce and challenge, and the server's side of the trust."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.channel = Channel()
        self.server_id = (store.read_file(layout.SERVER_ID) or b"").decode().strip()
        body = trust_store.current_body()
        self.trust: Trust = parse_trust(body)
        self._trust_sha256 = hashlib.sha256(body).hexdigest()
        self.challenge = secrets.token_hex(32)
        self.hello_clock = store.now_ms()
        self.hello_tick = time.monotonic()

    @property
    def identity(self) -> Identity:
        """Read for each signature, so that no forked child inherits the private key."""
        return Identity()

    @property
    def versions(self) -> dict[str, int]:
        return {"trust": self.trust.version, "bundle": trust_store.bundle_version()}

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.hello_tick) * 1000)

    def greet(self) -> None:
        chain.settle()
        hello = {
            "v": 1,
            "typ": "hello",
            "nonce": self.nonce,
            "challenge": self.challenge,
            "server_id": self.server_id,
            "trust_version": self.trust.version,
            "trust_sha256": self._trust_sha256,
            "bundle_version": trust_store.bundle_version(),
            "boot": store.boot_marker(),
            "clock": self.hello_clock,
            "last_receipt": chain.last_receipt()[1],
            "pending": (store.read_file(f"{layout.SAFE}/pending") or b"").decode(),
        }
        self.channel.send(b"H", self.identity.signed(HELLO, store.encode(hello)))

    def reload_trust(self) -> None:
        """Anew after every wait: a key may have been revoked in the meantime."""
        self.trust = trust_store.current()

    def about(self, told: dict[str, Any], body: bytes, name: str, public_key: bytes | None) -> dict[str, Any]:
        """What every answer says of what it answers. The key is one whose signature was verified, or None."""
        told = {**BLANK, **told, "challenge": self.challenge, "server_id": self.server_id}
        print_ = fingerprint(public_key) if public_key else ""
        return receipt.context(told, body, self.nonce, name, print_, self.versions)

    def answer(self, body: dict[str, Any]) -> None:
        """A reply: signed, and in no chain."""
        self.channel.send(b"R", self.identity.signed(RECEIPT, store.encode(body)))

    def deny(self, about: dict[str, Any], denial: Denied) -> None:
        """Signed, and in the chain as long as denials do not come by the hundred."""
        body = receipt.build(about, "denied", code=denial.code, message=denial.message)
        log(f"denied {about['action']} to {about['actor']['name']}: {denial.code}")
        kept = chain.append_denial(self.identity, body)
        if kept:
            self.channel.send(b"R", kept)
        else:
            self.answer({**body, "typ": "reply"})

    def refuse(self, why: str) -> None:
        """The one generic word for whoever is not known."""
        log(f"refused a message: {why}")
        self.channel.send(b"E", b'{"code":"refused"}')

    def show_once(self, op_id: str) -> None:
        """Values that were made on the server, to the first who asks; they are in memory only, and gone after this."""
        import shutil

        folder = f"{layout.RUN}/{op_id}"
        shown = store.read_file(f"{folder}/shown-once")
        if shown:
            self.channel.send(b"S", shown)
            shutil.rmtree(folder, ignore_errors=True)

    def lock(self, name: str, about: dict[str, Any], wait_s: float) -> int:
        """A lock of the server's, as a descriptor. Says so when it has to wait. Raises Denied(locked)."""
        told = {"op_id": about["op_id"], "action": about["action"], "actor": about["actor"]["name"]}
        owner = {**told, "since": store.now_ms()}
        try:
            return store.take_lock(name, 0.05, owner)
        except store.Busy as busy:
            self.channel.tell({"t": "note", "text": "waiting: " + store.lock_story(str(busy))})
        try:
            return store.take_lock(name, wait_s, owner)
        except store.Busy as busy:
            raise Denied("locked", store.lock_story(str(busy))) from None


def safe_change() -> Pending | None:
    """The safe change that waits, and who signed it. And the last one after its end, for whoever asks again or too late
    is to hear how it ended.
    """
    names = os.listdir(layout.SAFE)
    if "pending" in names:
        import armed

        found = armed.pending_key()
        if found:
            return Pending(*found)
    folders = [name for name in names if os.path.isdir(f"{layout.SAFE}/{name}")]
    last = max(folders, key=lambda name: os.stat(f"{layout.SAFE}/{name}").st_mtime_ns, default="")
    first = store.burned_by(last) if last else None
    return Pending(last, first.signatures[0].public_key) if first else None


def fingerprint(public_key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + public_key
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def log(message: str) -> None:
    """One line for journald, without control characters, at most a few a minute through the login's own limits."""
    import syslog

    syslog.openlog("serverflow")
    syslog.syslog(syslog.LOG_WARNING, "".join(c if c.isprintable() else "?" for c in message)[:500])
