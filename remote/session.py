"""One SSH session: HELLO, one signed frame in, one signed answer out. See docs/protocol.md.

What arrives is bytes until verify.py and authorise.py have spoken; nothing of it reaches a shell. Modules that only a
run needs are imported when it comes to that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import select
import time
from typing import Any

import authorise
import layout
import receipt
import store
import trust_store
import verify
from messages import Command, CommandKey, Denied, Trust
from signing import HELLO, RECEIPT, Identity

HERE = os.path.dirname(os.path.realpath(__file__))
READ_DEADLINE_S = 10
BLOB_IDLE_S = 60
PROGRESS_LIMIT = 4096
LOCK_WAIT_LIMIT_S = 600


class Gone(Exception):
    """The client closed the connection."""


class Channel:
    """The SSH channel as two descriptors."""

    def read(self, size: int, deadline: float) -> bytes:
        """Exactly `size` bytes before the deadline (monotonic seconds). Raises Refused or Gone."""
        parts: list[bytes] = []
        while size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([0], [], [], left)[0]:
                raise verify.Refused("the message did not arrive in time")
            data = os.read(0, min(size, 1 << 20))
            if not data:
                raise Gone
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def read_frame(self, limit: int, deadline: float, optional: bool = False) -> bytes:
        """A length and as many bytes; an `optional` frame may be empty. Raises Refused or Gone."""
        length = int.from_bytes(self.read(4, deadline), "big")
        if optional and not length:
            return b""
        verify.check_frame_length(length, limit)
        return self.read(length, deadline)

    def send(self, kind: bytes, payload: bytes) -> None:
        data = memoryview(kind + len(payload).to_bytes(4, "big") + payload)
        while data:
            data = data[os.write(1, data) :]

    def tell(self, event: dict[str, Any]) -> None:
        """Progress for people. Raises BrokenPipeError when nobody listens any more."""
        self.send(b"P", json.dumps(event).encode()[:PROGRESS_LIMIT])


class Session:
    """What one connection knows: its nonce and challenge, and the server's side of the trust."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.channel = Channel()
        self.identity = Identity()
        self.server_id = (store.read_file(layout.SERVER_ID) or b"").decode().strip()
        self.trust: Trust = trust_store.current()
        self.challenge = secrets.token_hex(32)
        self.hello_clock = store.now_ms()
        self.hello_tick = time.monotonic()

    @property
    def versions(self) -> dict[str, int]:
        return {"trust": self.trust.version, "bundle": trust_store.bundle_version()}

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.hello_tick) * 1000)

    def run(self) -> None:
        self.channel.send(b"H", self.identity.signed(HELLO, store.encode(self._hello())))
        try:
            frame = self.channel.read_frame(verify.FRAME_LIMIT, time.monotonic() + READ_DEADLINE_S)
            signed = verify.parse_signed(frame)
            if signed.namespace == verify.COMMAND:
                self._command(frame, signed)
            elif signed.namespace == verify.TRUST:
                self._trust(signed)
            elif signed.namespace == verify.BUNDLE:
                self._bundle(signed)
            else:
                raise verify.Refused("a frame that no client sends")
        except verify.Refused as error:
            log(f"refused a message: {error}")
            self.channel.send(b"E", b'{"code":"refused"}')

    def _hello(self) -> dict[str, Any]:
        return {
            "v": 1,
            "typ": "hello",
            "nonce": self.nonce,
            "challenge": self.challenge,
            "server_id": self.server_id,
            "trust_version": self.trust.version,
            "bundle_version": trust_store.bundle_version(),
            "boot": store.boot_marker(),
            "clock": self.hello_clock,
            "last_receipt": store.last_receipt()[1],
            "pending": (store.read_file(f"{layout.SAFE}/pending") or b"").decode(),
        }

    # --- commands ----------------------------------------------------------------------------------------------------

    def _command(self, frame: bytes, signed: verify.Signed) -> None:
        about: dict[str, Any] | None = None
        # Anew: a key may have been revoked since HELLO.
        self.trust = trust_store.current()
        try:
            verified = authorise.verify_command(
                signed,
                trust=self.trust,
                server_id=self.server_id,
                challenge=self.challenge,
                hello_clock_ms=self.hello_clock,
                elapsed_ms=self.elapsed_ms(),
                now_ms=store.now_ms(),
                bundle_registry=json.loads(store.read_file(f"{HERE}/registry.json") or b"{}"),
            )
            command, entry = verified.command, dict(verified.entry)
            about = self._about(command, signed.body, verified.key)
            secret_frame = self.channel.read_frame(
                verify.SECRETS_LIMIT, time.monotonic() + READ_DEADLINE_S, optional=True
            )
            values = authorise.check_secrets(command, secret_frame, entry["secrets"])
            self._dispatch(frame, command, entry, about, values)
        except Denied as denial:
            if about is None:
                about = self._about(denial.command, signed.body, denial.key)
            self._deny(about, denial)

    def _about(self, command: Command | None, body: bytes, key: CommandKey | None) -> dict[str, Any]:
        """What every answer says of the command; a body that could not be read leaves it blank."""
        told = {name: getattr(command, name, blank) for name, blank in BLANK.items()}
        told["challenge"], told["server_id"] = self.challenge, self.server_id
        name, print_ = (key.name, fingerprint(key.public_key)) if key else ("", "")
        return receipt.context(told, body, self.nonce, name, print_, self.versions)

    def _deny(self, about: dict[str, Any], denial: Denied) -> None:
        """Signed, and in the chain as long as denials do not come by the hundred."""
        body = receipt.build(about, "denied", code=denial.code, message=denial.message)
        log(f"denied {about['action']} to {about['actor']['name']}: {denial.code}")
        if store.denials_this_hour() < store.DENIALS_AN_HOUR:
            self.channel.send(b"R", store.append_receipt(self.identity, body))
        else:
            self._answer({**body, "typ": "reply"})

    def _answer(self, body: dict[str, Any]) -> None:
        self.channel.send(b"R", self.identity.signed(RECEIPT, store.encode(body)))

    def _dispatch(
        self, frame: bytes, command: Command, entry: dict[str, Any], about: dict[str, Any], values: dict[str, str]
    ) -> None:
        if entry["kind"] == "read" or command.mode == "plan":
            self._read(command, entry, about, values)
            return
        import changes

        changes.perform(self, frame, command, entry, about, values)

    def _read(self, command: Command, entry: dict[str, Any], about: dict[str, Any], values: dict[str, str]) -> None:
        timeout, memory = limits(command, entry)
        if entry["profile"] == "core":
            import core

            params = self.core_params(command, entry)
            if entry["kind"] != "read":
                self._answer(receipt.build(about, "done", reply=True, **core.forecast(command.action)))
                return
            outcome, data = core.perform(command.action, params, self.channel.tell)
            if command.action in ("op.status", "op.follow") and core.actor_of(params["op"]) == about["actor"]["key"]:
                self.show_once(params["op"])
            self._answer(
                receipt.build(about, outcome, reply=True, data=data, sandbox={"profile": "core", "effective": {}})
            )
            return
        import reads

        job = {"action": command.action, "module": entry["module"], "params": dict(command.params)}
        check_params(job, values)
        end, effective, output = reads.perform(
            app_user(entry, command.params) or layout.READ_USER,
            job,
            entry,
            timeout,
            memory,
            lambda chunk: self.channel.send(b"O", chunk),
            values,
        )
        body = receipt.build(
            about,
            end_outcome(end, command),
            reply=True,
            code=end["code"],
            message=end["message"],
            output=output,
            sandbox={"profile": "read", "effective": effective},
            changes=end["changes"],
            data=end["data"],
            plan_sha256=end["plan_sha256"],
            base=store.applied(command.base.resource) if command.base else None,
        )
        self._answer(body)

    def core_params(self, command: Command, entry: dict[str, Any]) -> dict[str, Any]:
        job = {"action": command.action, "module": entry["module"], "params": dict(command.params)}
        return dict(vars(check_params(job, {})))

    def show_once(self, op_id: str) -> None:
        """Values that were made on the server, to the first who asks; they are in memory only, and gone after this."""
        import shutil

        folder = f"{layout.RUN}/{op_id}"
        shown = store.read_file(f"{folder}/shown-once")
        if shown:
            self.channel.send(b"S", shown)
            shutil.rmtree(folder, ignore_errors=True)

    # --- trust and bundle --------------------------------------------------------------------------------------------

    def _trust(self, signed: verify.Signed) -> None:
        """Version N+1, one at a time. Signatures alone carry it; there is nothing to replay."""
        about = self._frame_about("trust.update", signed)
        descriptor = -1
        try:
            descriptor = self._lock(about, 30)
            self.trust = trust_store.current()
            trust = authorise.verify_trust_update(self.trust, signed.body, signed.signatures)
            trust_store.install_trust(trust, signed.body, signed.blobs)
            about["versions"] = {"trust": trust.version, "bundle": trust_store.bundle_version()}
            body = receipt.build(about, "done", data={"trust_version": trust.version})
            self.channel.send(b"R", store.append_receipt(self.identity, body))
        except Denied as denial:
            self._deny(about, denial)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _bundle(self, signed: verify.Signed) -> None:
        about = self._frame_about("bundle.update", signed)
        descriptor = -1
        try:
            descriptor = self._lock(about, 30)
            bundle = authorise.verify_bundle(
                self.trust, trust_store.bundle_version(), signed.body, signed.signatures, now_ms=store.now_ms()
            )
            check_disk(sum(file.size for file in bundle.files) * 3)
            self.channel.send(b"G", b"{}")
            trust_store.install_bundle(
                bundle, signed.body, signed.blobs, lambda size: self.channel.read(size, time.monotonic() + BLOB_IDLE_S)
            )
            about["versions"] = {"trust": self.trust.version, "bundle": bundle.version}
            body = receipt.build(about, "done", data={"bundle_version": bundle.version})
            self.channel.send(b"R", store.append_receipt(self.identity, body))
        except Denied as denial:
            self._deny(about, denial)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _frame_about(self, action: str, signed: verify.Signed) -> dict[str, Any]:
        signer = fingerprint(signed.signatures[0].public_key)
        told = {**BLANK, "action": action, "challenge": self.challenge, "server_id": self.server_id}
        return receipt.context(told, signed.body, self.nonce, "", signer, self.versions)

    def _lock(self, about: dict[str, Any], wait_s: int) -> int:
        owner = {
            "op_id": about["op_id"],
            "action": about["action"],
            "actor": about["actor"]["name"],
            "since": store.now_ms(),
        }
        try:
            return store.take_lock("server", wait_s, owner)
        except store.Busy as busy:
            raise Denied("locked", store.lock_story(str(busy))) from None


BLANK: dict[str, Any] = {
    "challenge": "",
    "server_id": "",
    "op_id": "",
    "action": "",
    "action_version": 0,
    "mode": "run",
    "actor": "",
}


def fingerprint(public_key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + public_key
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def limits(command: Command, entry: dict[str, Any]) -> tuple[int, int]:
    """Timeout in seconds and memory in bytes: the smaller of what the action allows and what the command asks."""
    return (
        min(entry["timeout"], command.limits.get("timeout_s", entry["timeout"])),
        min(entry["memory"], command.limits.get("memory", entry["memory"])),
    )


def check_params(job: dict[str, Any], values: dict[str, str]) -> Any:
    """The parser of the action's own declaration; before anything is burned or started."""
    import jobs
    from serverflow_actions.kit.spec import BadParams

    try:
        return jobs.parsed(jobs.load(job["action"], job["module"]), job, values)
    except BadParams as error:
        raise Denied("bad-params", str(error)) from None


def app_user(entry: dict[str, Any], params: Any) -> str:
    """Whom the engine runs as: root, or the user of the app that the parameters name."""
    if entry["run_as"] != "app":
        return ""
    name = params.get("app") or params.get("name")
    import pwd

    record = store.read_file(f"{layout.APPS}/{name}.json")
    if record is None:
        raise Denied("bad-params", f"there is no app {name} on this server")
    user = str(json.loads(record)["user"])
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise Denied("action-failed", f"the app's user {user} does not exist") from None
    if found.pw_uid == 0:
        raise Denied("action-failed", "an app does not run as root")
    return user


def check_disk(needed: int) -> None:
    """Room for what is announced and a reserve. Raises Denied."""
    found = os.statvfs(layout.STATE)
    if found.f_bavail * found.f_frsize < needed + (8 << 20):
        raise Denied("disk-full", "not enough room on this server")


def end_outcome(end: dict[str, Any], command: Command) -> str:
    if end["code"] in ("timeout", "out-of-memory", "killed"):
        return str(end["code"])
    if end["code"]:
        return "failed"
    return "unchanged" if command.mode == "plan" and not end["changes"] else "done"


def log(message: str) -> None:
    """One line for journald, without control characters, at most a few a minute through the login's own limits."""
    import syslog

    syslog.openlog("serverflow")
    syslog.syslog(syslog.LOG_WARNING, "".join(c if c.isprintable() else "?" for c in message)[:500])
