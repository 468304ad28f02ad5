"""The entry point: sshd's forced command starts it through sudo, as root, with `python3 -IS`."""

from __future__ import annotations

import gc
import os
import re
import sys
import time

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
    """What timers, the boot unit and an update start. Not reachable through sudo: its rule allows no arguments."""
    import armed
    import trust_store
    import units

    if arguments[0] == "rollback" and len(arguments) == 2:
        _roll_back(arguments[1])
    elif arguments == ["boot"]:
        if armed.pending():
            # Not so a later attempt: by then systemd-sysctl has run, and units have started.
            _roll_back(armed.pending(), at_boot=units.is_booting())
        # A crash may have come between a new trust file and the login keys that follow from it.
        trust_store.repair_login_keys()
    elif arguments == ["renew-boot-unit"]:
        import boot

        boot.keep()
    else:
        raise SystemExit("serverflow: unknown local request")


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
        safe.rollback(op_id, record, at_boot=at_boot)
    except (safe.Decided, safe.NotPending) as verdict:
        log(f"rollback of {op_id}: {verdict}")
    except OSError as error:  # the unit tries again until it has finished
        log(f"rollback of {op_id} has not finished: {error}")
        raise SystemExit(1) from error


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
