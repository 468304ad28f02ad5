"""One exchange: HELLO, one signed frame, progress, one verified answer."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverflow_actions.kit.change import from_json

from ..errors import Locked, OutcomeUnknown, SfError, TrustError, Unreachable, from_code
from ..model.result import Reply, Report, Request
from ..transport.frames import ConnectionLost, framed
from ..transport.ssh import Connector, Exec
from ..trust import chain, receipts, sshsig
from ..trust.keys import fingerprint
from ..trust.sshsig import Signer
from . import answers, hello
from .hello import Hello, Link

LIFETIME_MS = 120_000
SKEW_WARNING_MS = 60_000
BLOB_CHUNK = 1 << 16
#: Bytes a second below which an upload is given up.
SLOWEST_UPLOAD = 50_000
UPDATE_S = 300
#: Beyond the action's own time: for the sandbox to start and the receipt to come back.
GRACE_S = 30
#: Two root keys' holders signed at once, and each brought theirs to some servers.
OTHER_TRUST = "it has another trust version {version} than this fleet folder: sign the next one (sf trust renew)"
#: Between two looks whether a safe change still waits on the server.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.3, 2.0
GOOD = ("done", "unchanged", "rolled-back")
#: Beside what the server says: an older one cannot know what a newer client may have meant.
_HINTS = {
    "bad-frame": "sf and the server's runner do not understand each other: sf server update; else update sf",
    "unknown-action": "sf registry diff shows whether the fleet's bundle has it",
    "action-version": "sf registry diff shows which side is behind",
    "pending-change": "sf safe status; then sf safe confirm OP or sf safe rollback OP --on SERVER",
}


@dataclass(frozen=True)
class Operator:
    """Who acts: the key that signs commands, the trust version it knows, a name for people.

    `chain` is where receipts go; `sent` notes each command before it leaves, so that an operation whose answer was lost
    can be asked for. A server that has less than `trust_version` gets what it misses from `trust_folder` first: so a
    revocation reaches it on its next contact with anybody.
    """

    signer: Signer
    trust_version: int
    trust_sha256: str
    chain: Path
    sent: Path
    name: str
    trust_folder: Path


@dataclass
class _Answer:
    """What came back in one exchange."""

    body: dict[str, Any] = field(default_factory=dict)
    frame: bytes = b""
    shown: dict[str, str] = field(default_factory=dict)


class Caller:
    """Runs exchanges for one operator over one set of SSH keys."""

    def __init__(self, connector: Connector, operator: Operator) -> None:
        self._connector = connector
        self._operator = operator

    @property
    def acts_as(self) -> tuple[str, str]:
        """Fingerprint of the command key and the name, as receipts will say it."""
        return fingerprint(self._operator.signer.public_key), self._operator.name[:64]

    async def call(self, link: Link, request: Request, op_id: str, version: int, report: Report) -> Reply:
        """Run one action. `version` is the action's version that we know.

        Raises SfError: TrustError for what the pins or the server refuse, ActionFailed for what failed there, Locked
        when somebody else is at work there for longer than `lock_wait_s`, OutcomeUnknown when the connection was lost
        after the command was sent.
        """
        end = _now() + request.lock_wait_s
        while True:
            try:
                return await self._call(link, request, op_id, version, report)
            except Locked as error:
                # A server's own lock is not held until then: else nobody could confirm.
                if error.code != "pending-change" or _now() + FIRST_PAUSE_S >= end:
                    raise
            await asyncio.sleep(FIRST_PAUSE_S)
            await self.wait_for_turn(link, end - _now(), report)

    async def wait_for_turn(self, link: Link, wait_s: float, report: Report) -> None:
        """Until no safe change waits for confirmation there: it ends, at its deadline by itself.

        Raises Locked when one still waits after `wait_s` seconds.
        """
        end, pause = _now() + wait_s, FIRST_PAUSE_S
        while pending := (await self.greet(link)).pending:
            left = end - _now()
            if left <= 0:
                raise Locked(
                    f"a safe change waits for confirmation: {pending}",
                    server=link.name,
                    code="pending-change",
                    hint=_hint("pending-change", link, pending),
                )
            report({"t": "step", "server": link.name, "doing": f"waiting for the safe change {pending} to end"})
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _call(self, link: Link, request: Request, op_id: str, version: int, report: Report) -> Reply:
        # Check mode changes nothing on a server, not even what it trusts.
        async with self._session(link, None if request.mode == "plan" else report) as (channel, greeting, nonce):
            notes = self._notes(greeting, request)
            secret_frame = _secret_frame(request.secrets)
            body = self._command(link, greeting, request, op_id, version, secret_frame)
            frame = _signed_frame(self._operator.signer, sshsig.COMMAND, body) + framed(secret_frame)
            if not request.read_only:
                self._note_sent(link, request, op_id, greeting.clock)
            about = {"op": op_id, "action": request.action, "mode": request.mode, "safe": bool(request.confirm_s)}
            report({"t": "op", "server": link.name, **about})
            try:
                async with asyncio.timeout(_deadline(request)):
                    await channel.write(frame)
                    answer = await self._answer(channel, link, report, request.blobs)
            except (ConnectionLost, TimeoutError) as error:
                raise _unknown(link, op_id, request, error) from None
            except TrustError as error:
                if error.code == "newer-server" and not request.read_only:
                    error.hint = f"it has answered, so it has ended there; update sf, then: sf op status {op_id}"
                raise
        _check_echo(answer.body, link, body, greeting, nonce, request, op_id)
        self._keep(link, answer)
        return _reply(answer, link, op_id, notes, greeting.pending)

    async def push(
        self, link: Link, body: bytes, blobs: Sequence[bytes], content: Sequence[bytes], report: Report
    ) -> Reply:
        """Send a trust version or a bundle with its signatures; `content` are the bundle's files in order."""
        async with self._session(link) as (channel, greeting, nonce):
            try:
                async with asyncio.timeout(UPDATE_S):
                    await channel.write(framed(sshsig.pack_signed(body, blobs)))
                    answer = await self._answer(channel, link, report, content)
            except (ConnectionLost, TimeoutError):
                raise OutcomeUnknown(
                    "the connection was lost during the update", server=link.name, hint="run it again"
                ) from None
        _check_echo(answer.body, link, body, greeting, nonce, None, "")
        self._keep(link, answer)
        return _reply(answer, link, "", (), "")

    async def greet(self, link: Link) -> Hello:
        """A HELLO and nothing else."""
        async with self._session(link) as (_, greeting, _):
            return greeting

    async def greet_and_listen(self, link: Link) -> tuple[Hello, tuple[str, ...]]:
        """A HELLO, and the host keys that the server announces beside the pinned ones: not to be trusted."""
        async with self._connector.listen(link.endpoint) as announced:
            return await self.greet(link), await announced()

    @contextlib.asynccontextmanager
    async def _session(self, link: Link, catch_up: Report | None = None) -> AsyncIterator[tuple[Exec, Hello, str]]:
        """A verified HELLO on a fresh channel. With `catch_up`, from a server that has our trust version by then."""
        async with self._connector.hold(link.endpoint):
            channel, greeting, nonce = await self._greeted(link)
            if catch_up and greeting.trust_version < self._operator.trust_version:
                channel.close()
                for number in range(greeting.trust_version + 1, self._operator.trust_version + 1):
                    catch_up({"t": "step", "server": link.name, "doing": f"bringing trust version {number}"})
                    body, blobs = chain.read_version(self._operator.trust_folder, number)
                    try:
                        await self.push(link, body, blobs, (), catch_up)
                    except TrustError as error:
                        if error.code != "older-version":  # somebody else brings them too, and is further
                            raise
                channel, greeting, nonce = await self._greeted(link)
            yield channel, greeting, nonce

    async def _greeted(self, link: Link) -> tuple[Exec, Hello, str]:
        nonce = secrets.token_hex(32)
        async with self._connector.connect(link.endpoint) as connection:
            channel = await self._connector.run(connection, link.endpoint, f"sf1 {nonce}")
            try:
                kind, payload = await channel.frames.next(30)
            except (ConnectionLost, TimeoutError):
                raise await channel.complaint() from None
            if kind != b"H":
                raise await channel.complaint()
            return channel, hello.verified(payload, link, nonce), nonce

    def _notes(self, greeting: Hello, request: Request) -> tuple[str, ...]:
        """What the operator should know although nothing is wrong yet."""
        notes = []
        skew = abs(greeting.clock - time.time_ns() // 1_000_000)
        if skew > SKEW_WARNING_MS:
            notes.append(
                f"its clock is {skew // 1000} s away from ours; that does no harm here, but to certificates and logs"
            )
        if greeting.trust_version > self._operator.trust_version:
            notes.append(
                f"it has trust version {greeting.trust_version}, this fleet folder {self._operator.trust_version}: "
                "pull the fleet folder"
            )
        ours = (self._operator.trust_version, self._operator.trust_sha256)
        if greeting.trust_version == ours[0] and greeting.trust_sha256 != ours[1]:
            notes.append(OTHER_TRUST.format(version=ours[0]))
        # This very call may confirm it, or be there to tell of it.
        if greeting.pending and greeting.pending != request.params.get("op") and request.action != "safe.status":
            notes.append(f"a safe change waits for confirmation there: {greeting.pending}")
        return tuple(notes)

    def _command(
        self, link: Link, greeting: Hello, request: Request, op_id: str, version: int, secret_frame: bytes
    ) -> bytes:
        limits = {"lock_wait_s": request.lock_wait_s}
        if request.timeout_s is not None:
            limits["timeout_s"] = request.timeout_s
        command = {
            "v": 1,
            "typ": "command",
            "server_id": link.server_id,
            "challenge": greeting.challenge,
            "op_id": op_id,
            "action": request.action,
            "action_version": version,
            "params": dict(request.params),
            # A server that missed a version still knows this key; only more than it has would be refused.
            "trust_version": min(self._operator.trust_version, greeting.trust_version),
            "issued_at": greeting.clock,
            "expires_at": greeting.clock + LIFETIME_MS,
            "limits": limits,
            "mode": request.mode,
            "confirm_s": request.confirm_s,
            "base": request.base,
            "plan_sha256": request.plan_sha256,
            "secrets_commit": hashlib.sha256(secret_frame).hexdigest() if secret_frame else None,
            "blobs": [{"sha256": hashlib.sha256(blob).hexdigest(), "size": len(blob)} for blob in request.blobs],
            "prev_receipt": receipts.last_hash(self._operator.chain),
            "actor": self._operator.name[:64],
        }
        return json.dumps(command, separators=(",", ":"), ensure_ascii=False).encode()

    async def _answer(self, channel: Exec, link: Link, report: Report, blobs: Sequence[bytes]) -> _Answer:
        """Frames until the last one. The caller sets the deadline: frames without end are no sign of life."""
        answer = _Answer()
        digest, length = hashlib.sha256(), 0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            kind, payload = await channel.frames.next()
            if kind == b"P":
                report({**answers.event(payload), "server": link.name})
            elif kind == b"O":
                digest.update(payload)
                length += len(payload)
                report({"t": "output", "server": link.name, "text": decoder.decode(payload)})
            elif kind == b"G" and blobs:
                await _send_blobs(channel, blobs)
                blobs = ()
            elif kind == b"S":
                answer.shown = answers.shown(payload, link.name)
            elif kind == b"R":
                answer.frame = payload
                answer.body = answers.receipt(hello.signed_body(payload, sshsig.RECEIPT, link), link.name)
                _check_output(answer.body, digest.hexdigest(), length, link)
                return answer
            elif kind == b"E":
                raise TrustError(
                    "the server refused the message: it does not know this key, or the message was damaged",
                    server=link.name,
                    code="refused",
                    hint="is this key in the trust file, and has the server that version? sf server update",
                )
            else:
                raise Unreachable("the server sends something that is not our protocol", server=link.name)

    @contextlib.asynccontextmanager
    async def hold(self, link: Link) -> AsyncIterator[None]:
        """One connection for all calls to this server inside the block."""
        async with self._connector.hold(link.endpoint):
            yield

    async def hang_up(self, link: Link) -> None:
        """End the held connection, if there is one: the next call is over a new one."""
        await self._connector.hang_up(link.endpoint)

    def _note_sent(self, link: Link, request: Request, op_id: str, at: int) -> None:
        self._operator.sent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry = {"op": op_id, "server": link.name, "server_id": link.server_id, "action": request.action, "at": at}
        with self._operator.sent.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def keep_receipt(self, link: Link, op_id: str, body: bytes, sig: bytes) -> dict[str, Any]:
        """Verify and store the receipt of an operation that was fetched later (`op status`). Raises TrustError."""
        signed = hello.signed_body(sshsig.pack_signed(body, [sig]), sshsig.RECEIPT, link, kept=True)
        value = answers.receipt(signed, link.name)
        if (value["typ"], value["op_id"], value["server_id"]) != ("receipt", op_id, link.server_id):
            raise TrustError("the receipt is of another operation", server=link.name, code="wrong-receipt")
        if not any(entry.body == body.decode() for entry in receipts.entries(self._operator.chain)):
            receipts.append(self._operator.chain, link.server_id, body, sig, time.time_ns() // 1_000_000)
        return value

    def _keep(self, link: Link, answer: _Answer) -> None:
        """A reply, as to a trust version that was there already, has no place in a chain."""
        if answer.body["typ"] != "receipt":
            return
        blobs, body = sshsig.unpack_signed(answer.frame)
        receipts.append(self._operator.chain, link.server_id, body, blobs[0], time.time_ns() // 1_000_000)


def _signed_frame(signer: Signer, namespace: str, body: bytes) -> bytes:
    return framed(sshsig.pack_signed(body, [sshsig.sign(signer, namespace, body)]))


def _secret_frame(values: Mapping[str, str]) -> bytes:
    """Salted, so that the commitment in the signed body gives nothing away about a short secret."""
    return os.urandom(32) + json.dumps(dict(values), ensure_ascii=False).encode() if values else b""


async def _send_blobs(channel: Exec, blobs: Sequence[bytes]) -> None:
    for blob in blobs:
        for start in range(0, len(blob), BLOB_CHUNK):
            await channel.write(blob[start : start + BLOB_CHUNK])


def _deadline(request: Request) -> float | None:
    """Seconds for everything after HELLO; None for what has no end of its own, such as following a log."""
    if request.timeout_s is None:
        return None
    upload = sum(map(len, request.blobs)) / SLOWEST_UPLOAD
    return request.timeout_s + request.lock_wait_s + GRACE_S + upload


def _check_echo(
    answer: Mapping[str, Any],
    link: Link,
    body: bytes,
    greeting: Hello,
    nonce: str,
    request: Request | None,
    op_id: str,
) -> None:
    """The answer must be to this very command, or the stored receipt of the same operation; a change has a receipt."""
    fresh = (answer["nonce"], answer["challenge"]) == (nonce, greeting.challenge)
    exact = fresh and answer["body_sha256"] == hashlib.sha256(body).hexdigest()
    stored = bool(op_id) and answer["op_id"] == op_id and answer["typ"] == "receipt"
    same = (
        request is None
        or answer["outcome"] == "denied"
        or (answer["action"], answer["mode"]) == (request.action, request.mode)
    )
    proof = request is None or request.read_only or answer["typ"] == "receipt" or answer["outcome"] == "denied"
    if answer["server_id"] != link.server_id or not (exact or stored) or not same or not proof:
        raise TrustError("the receipt belongs to another command", server=link.name, code="wrong-receipt")


def _check_output(body: Mapping[str, Any], digest: str, length: int, link: Link) -> None:
    """A read's signature covers what was streamed, through its hash; an operation's covers what the server kept."""
    told = body["output"]
    if body["typ"] == "reply" and length and (told["sha256"], told["length"]) != (digest, length):
        raise TrustError("the streamed output is not what the server signed", server=link.name, code="bad-signature")


def _unknown(link: Link, op_id: str, request: Request, error: Exception) -> SfError:
    if request.read_only:
        return Unreachable(
            f"the connection was lost: {error}" if str(error) else "the server stopped answering", server=link.name
        )
    return OutcomeUnknown(
        "the connection was lost after the command was sent; the server goes on with it",
        server=link.name,
        hint=f"sf op follow {op_id}",
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _hint(code: str, link: Link, pending: str) -> str:
    """`pending` is the safe change that waits there, "" for none that we know of."""
    return _HINTS.get(code, "").replace("SERVER", link.name).replace("OP", pending or "OP")


def _reply(answer: _Answer, link: Link, op_id: str, notes: tuple[str, ...], pending: str) -> Reply:
    body = answer.body
    if body["outcome"] not in GOOD or body["code"]:  # with a code, "rolled-back" is of a change that has failed
        code = str(body["code"]) or str(body["outcome"])
        failure = from_code(code, str(body["message"]), server=link.name, hint=_hint(code, link, pending))
        # What was made counts, once it is confirmed.
        shown = answer.shown if body["outcome"] == "pending-confirm" else {}
        failure.reply = Reply(
            op_id, str(body["outcome"]), tuple(map(from_json, body["changes"])), body["data"], shown, "", body, notes
        )
        raise failure
    return Reply(
        op_id,
        str(body["outcome"]),
        tuple(map(from_json, body["changes"])),
        body["data"],
        answer.shown,
        str(body["plan_sha256"]),
        body,
        notes,
    )
