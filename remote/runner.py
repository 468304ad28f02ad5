"""The entry point: sshd's forced command starts it through sudo, as root, with `python3 -IS`."""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from typing import Callable

# Collections while modules load, and a last one at the end, find nothing: a fifth of the time of a read.
gc.set_threshold(100_000)
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import verify  # noqa: E402  (the folder and the collector come first)
from channel import READ_DEADLINE_S, Gone  # noqa: E402
from session import BLANK, Session, log  # noqa: E402

_REQUEST = re.compile(r"sf1 ([0-9a-f]{64})\Z", re.ASCII)


def serve(session: Session) -> None:
    """HELLO, one signed frame in, one signed answer out."""
    session.greet()
    try:
        frame = session.channel.read_frame(verify.FRAME_LIMIT, time.monotonic() + READ_DEADLINE_S)
        signed = verify.parse_signed(frame)
        if signed.namespace == verify.COMMAND:
            import commands

            commands.serve(session, frame, signed)
            return
        import updates

        if signed.namespace == verify.TRUST:
            updates.take_trust(session, signed)
        elif signed.namespace == verify.BUNDLE:
            updates.take_bundle(session, signed)
        else:
            raise verify.Refused("a frame that no client sends")
    except verify.Refused as error:
        session.refuse(str(error))


def local(arguments: list[str]) -> None:
    """What cron, timers, the boot unit and an update start. Not reachable through sudo: its rule has no arguments."""
    request, *values = arguments
    takes, perform = _LOCAL.get(request, ((), _boot))
    if len(values) not in takes:
        raise SystemExit("serverflow: unknown local request")
    perform(*values)


def _boot() -> None:
    import armed
    import trust_store
    import units

    if armed.pending():
        # Not so a later attempt: by then systemd-sysctl has run, and units have started.
        _roll_back(armed.pending(), at_boot=units.is_booting())
    # A crash may have come between a new trust file and the login keys that follow from it.
    trust_store.repair_login_keys()


def _renew_boot_unit() -> None:
    import boot

    boot.keep()


def _fire(job: str) -> None:
    import cronfire

    cronfire.fire(job)


def _run_job(job: str, run: str, due: str, trigger: str, by: str = "") -> None:
    import cronrun

    cronrun.main(job, run, due, trigger, by)


def _watch() -> None:
    import cronwatch

    cronwatch.watch()


def _cert_renew(name: str = "", force: str = "") -> None:
    import certturn

    certturn.main(name, force)


def _cert_revoke(name: str, reason: str) -> None:
    import certturn

    certturn.revoke(name, reason)


def _cert_acme(folder: str) -> None:
    import certacme

    certacme.main(folder)


def _cert_hook(folder: str) -> None:
    import certhook

    certhook.main(folder)


def _deliver() -> None:
    import deliver

    deliver.run()


def _roll_back(op_id: str, at_boot: bool = False) -> None:
    import chain
    import receipt
    import safe
    from signing import Identity

    def record(problems: list[str]) -> None:
        about = receipt.context({**BLANK, "action": "safe.rollback"}, b"", "", "", "", {"trust": 0, "bundle": 0})
        body = receipt.build(about, "rolled-back", trigger=op_id, data={"op": op_id, "problems": problems})
        chain.append_receipt(Identity(), body)

    try:
        problems = safe.rollback(op_id, record, at_boot=at_boot)
        _tell(op_id, problems)
    except (safe.Decided, safe.NotPending) as verdict:
        log(f"rollback of {op_id}: {verdict}")
    except OSError as error:  # the unit tries again until it has finished
        log(f"rollback of {op_id} has not finished: {error}")
        raise SystemExit(1) from error


def _tell(op_id: str, problems: list[str]) -> None:
    """Nobody may have been there to hear it."""
    import alerts

    text = "Not all could be put back: " + "; ".join(problems) if problems else "All was put back."
    title = f"Safe change {op_id} was not confirmed and has gone back"
    alerts.emit("safe.rolled_back", f"safe.rolled_back/{op_id}", title, text, {"op": op_id}, state="event")


#: By its first word: how many more it takes, and what is done then.
_LOCAL: dict[str, tuple[tuple[int, ...], Callable[..., None]]] = {
    "rollback": ((1,), _roll_back),
    "boot": ((0,), _boot),
    "renew-boot-unit": ((0,), _renew_boot_unit),
    "fire": ((1,), _fire),
    "cron-run": ((4, 5), _run_job),
    "watch": ((0,), _watch),
    "deliver": ((0,), _deliver),
    "cert-renew": ((0, 1, 2), _cert_renew),
    "cert-revoke": ((2,), _cert_revoke),
    "cert-acme": ((1,), _cert_acme),
    "cert-hook": ((1,), _cert_hook),
}


def main() -> None:
    if len(sys.argv) > 1 and "SUDO_UID" not in os.environ:
        local(sys.argv[1:])
        return
    request = _REQUEST.match(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    if not request:
        raise SystemExit("serverflow: this account takes signed commands only")
    try:
        serve(Session(request.group(1)))
    except (Gone, BrokenPipeError, ConnectionResetError):
        os._exit(1)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
