"""A command, from its frame to whoever carries it out. Nothing of it reaches a shell; what only a run needs is imported
when it comes to that.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import applied
import authorise
import channel
import layout
import receipt
import store
import verify
from messages import Command, CommandKey, Denied
from request import Request, app_user, check_params
from session import Session, safe_change

HERE = os.path.dirname(os.path.realpath(__file__))


def serve(session: Session, frame: bytes, signed: verify.Signed) -> None:
    """Raises Refused while the signer is unknown; from then on every way out is a signed answer."""
    about: dict[str, Any] | None = None
    session.reload_trust()
    try:
        verified = authorise.verify_command(
            signed,
            trust=session.trust,
            server_id=session.server_id,
            challenge=session.challenge,
            hello_clock_ms=session.hello_clock,
            elapsed_ms=session.elapsed_ms(),
            now_ms=store.now_ms(),
            bundle_registry=json.loads(store.read_file(f"{HERE}/registry.json") or b"{}"),
            pending=safe_change(),
        )
        command, entry = verified.command, verified.entry
        about = _about(session, command, signed.body, verified.key)
        deadline = time.monotonic() + channel.READ_DEADLINE_S
        try:
            secret_frame = session.channel.read_frame(verify.SECRETS_LIMIT, deadline, optional=True)
        except verify.Refused as refusal:
            raise Denied("bad-secrets", f"the secrets frame: {refusal}") from None
        secrets = authorise.check_secrets(command, secret_frame, entry["secrets"])
        _dispatch(session, Request(frame, signed, command, entry, about, secrets))
    except Denied as denial:
        if about is None:
            about = _about(session, denial.command, signed.body, denial.key)
        session.deny(about, denial)


def _about(session: Session, command: Command | None, body: bytes, key: CommandKey | None) -> dict[str, Any]:
    """A body that could not be read leaves blank what it should have said."""
    names = ("op_id", "action", "action_version", "mode", "actor", "prev_receipt")
    told = {name: getattr(command, name) for name in names} if command else {}
    return session.about(told, body, key.name if key else "", key.public_key if key else None)


def _dispatch(session: Session, request: Request) -> None:
    is_read = request.entry["kind"] == "read"
    if not is_read and request.command.mode == "run":
        import changes

        changes.perform(session, request)
    elif request.entry["profile"] != "core":
        _read(session, request)
    elif is_read:
        _core_read(session, request)
    else:
        import core

        check_params(request)
        session.answer(receipt.build(request.about, "done", reply=True, **core.forecast(request.command.action)))


def _core_read(session: Session, request: Request) -> None:
    import core

    action, params = request.command.action, check_params(request)
    outcome, data = core.perform(action, params, core.Asker(session.channel.tell, request.about["actor"]["name"]))
    if action in ("op.status", "op.follow") and _asked_by(params["op"], request.signed):
        session.show_once(params["op"])
    sandbox = {"profile": "core", "effective": {}}
    session.answer(receipt.build(request.about, outcome, reply=True, data=data, sandbox=sandbox))


def _asked_by(op_id: str, signed: verify.Signed) -> bool:
    """What is shown once is for the key that asked for the operation, and for no other that may look at it."""
    first = store.burned_by(op_id)
    return first is not None and first.signatures[0].public_key == signed.signatures[0].public_key


def _read(session: Session, request: Request) -> None:
    """A read, or a change in check mode, in the confined child."""
    import reads

    command, entry = request.command, request.entry
    check_params(request)
    timeout, memory = request.limits
    end, effective, output = reads.perform(
        app_user(request) or layout.READ_USER,
        request.job,
        dict(entry),
        timeout,
        memory,
        lambda chunk: session.channel.send(b"O", chunk),
        dict(request.secrets),
    )
    body = receipt.build(
        request.about,
        _outcome(end, command),
        reply=True,
        code=end["code"],
        message=end["message"],
        output=output,
        sandbox={"profile": "read", "effective": effective},
        changes=end["changes"],
        data=end["data"],
        plan_sha256=end["plan_sha256"],
        base=applied.last(command.base.resource) if command.base else None,
    )
    session.answer(body)


def _outcome(end: dict[str, Any], command: Command) -> str:
    if end["code"] in ("timeout", "out-of-memory", "killed"):
        return str(end["code"])
    if end["code"]:
        return "failed"
    return "unchanged" if command.mode == "plan" and not end["changes"] else "done"
