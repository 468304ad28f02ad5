"""Trust files and bundles. Signatures alone carry them: verified before anything is waited for, and again after."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import armed
import authorise
import chain
import layout
import receipt
import store
import trust_store
from channel import upload_deadline
from messages import Bundle, Denied, Role, Trust
from request import check_disk
from session import Session, log
from units import told
from verify import Refused, Signed

_WAIT_S = 30
#: A change at work must not hold up a revocation.
_JOBS_WAIT_S = 2


def take_trust(session: Session, signed: Signed) -> None:
    """Version N+1. Its lock is its own: a change at work must not hold up a revocation. Raises Refused."""
    session.reload_trust()
    about = _about(session, "trust.update", signed, session.trust.root)
    descriptor = -1
    try:
        if _successor(session, signed) is not None:
            descriptor = session.lock("trust", about, _WAIT_S)
            session.reload_trust()
        trust = _successor(session, signed)
        if trust is None:
            trust_store.repair_login_keys()
            data = {"trust_version": session.trust.version}
            session.answer(receipt.build(about, "unchanged", reply=True, data=data))
            return
        trust_store.install_trust(trust, signed.body, signed.blobs)
        session.trust = trust
        body = receipt.build({**about, "versions": session.versions}, "done", data={"trust_version": trust.version})
        try:
            frame = chain.append_receipt(session.identity, body)
        finally:
            _disable_jobs(trust)  # before the receipt goes out: the client may be gone by then
        session.channel.send(b"R", frame)
    except Denied as denial:
        session.deny(about, denial)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _disable_jobs(trust: Trust) -> None:
    """Of keys that are out. None of them would run any more; this says so in their files, and tells. What a change at
    work or a full disk keeps it from is for the watch to finish.
    """
    import cronwrite

    try:
        cronwrite.disable(trust, wait_s=_JOBS_WAIT_S)
    except Exception as error:  # the trust file is in force, and its receipt has to go out
        log(f"jobs of revoked keys were not disabled: {type(error).__name__}: {error}")


def _successor(session: Session, signed: Signed) -> Trust | None:
    """The new trust, verified; None when it is the installed one, byte for byte. Raises Refused or Denied."""
    try:
        return authorise.verify_trust_update(session.trust, signed.body, signed.signatures)
    except Denied as denial:
        if denial.code == "older-version" and signed.body == trust_store.current_body():
            return None
        raise


def take_bundle(session: Session, signed: Signed) -> None:
    """A newer version, taken in beside the old one; the lock is held while it takes over. Raises Refused."""
    session.reload_trust()
    about = _about(session, "bundle.update", signed, session.trust.release)
    descriptor, staging = -1, ""
    try:
        bundle = _newer(session, signed)
        _not_while_a_change_waits()
        size = sum(file.size for file in bundle.files)
        check_disk(size * 3)
        session.channel.send(b"G", b"{}")
        deadline = upload_deadline(size)
        staging = trust_store.stage_bundle(
            bundle, signed.body, signed.blobs, lambda count: session.channel.read(count, deadline)
        )
        descriptor = session.lock("server", about, _WAIT_S)
        session.reload_trust()
        _not_while_a_change_waits()
        trust_store.adopt_bundle(staging, _newer(session, signed))
        _renew_boot_unit()
        about["versions"] = {"trust": session.trust.version, "bundle": bundle.version}
        body = receipt.build(about, "done", data={"bundle_version": bundle.version})
        session.channel.send(b"R", chain.append_receipt(session.identity, body))
    except Denied as denial:
        session.deny(about, denial)
    finally:
        if staging:
            shutil.rmtree(staging, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _not_while_a_change_waits() -> None:
    """What undoes it was laid down by this runner. Raises Denied."""
    op_id = armed.pending()
    if op_id:
        raise Denied("pending-change", f"a safe change waits for confirmation: {op_id}")


def _renew_boot_unit() -> None:
    """By the code that came with it: this process still has the one before. What fails is mended by `Safely.arm`."""
    argv = [layout.RUNNER, "renew-boot-unit"]
    try:
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, check=True, capture_output=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as error:
        log(f"the boot unit was not renewed: {told(error)}")


def _newer(session: Session, signed: Signed) -> Bundle:
    """Raises Refused or Denied."""
    installed = trust_store.bundle_version()
    return authorise.verify_bundle(session.trust, installed, signed.body, signed.signatures, now_ms=store.now_ms())


def _about(session: Session, action: str, signed: Signed, role: Role) -> dict[str, Any]:
    """Named is the first key of the role that really signed it. Raises Refused when there is none."""
    for one in signed.signatures:
        if one.public_key in role.keys and one.signs(signed.body):
            return session.about({"action": action}, signed.body, role.keys[one.public_key], one.public_key)
    raise Refused("no signature by a key that may make one")
