"""The entry point: sshd's forced command starts it through sudo, as root, with `python3 -IS`."""

from __future__ import annotations

import gc
import os
import re
import sys

# Collections while modules load, and a last one at the end, find nothing: a fifth of the time of a read.
gc.set_threshold(100_000)
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from session import Gone, Session, log  # noqa: E402  (the folder and the collector come first)

_REQUEST = re.compile(r"sf1 ([0-9a-f]{64})\Z", re.ASCII)


def local(arguments: list[str]) -> None:
    """What timers and the boot unit start. Not reachable through sudo: its rule allows no arguments."""
    import receipt
    import safe
    import store
    from session import BLANK
    from signing import Identity

    if arguments[0] == "rollback" and len(arguments) == 2:
        op_id = arguments[1]
    elif arguments == ["boot"]:
        op_id = safe.pending()
    else:
        raise SystemExit("serverflow: unknown local request")
    if not op_id:
        return
    try:
        problems = safe.rollback(op_id)
    except (safe.Decided, safe.NotPending) as verdict:
        log(f"rollback of {op_id}: {verdict}")
        return
    about = receipt.context({**BLANK, "action": "safe.rollback"}, b"", "", "", "", {"trust": 0, "bundle": 0})
    body = receipt.build(about, "rolled-back", trigger=op_id, data={"op": op_id, "problems": problems})
    store.append_receipt(Identity(), body)


def main() -> None:
    if len(sys.argv) > 1 and "SUDO_UID" not in os.environ:
        local(sys.argv[1:])
        return
    request = _REQUEST.match(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    if not request:
        raise SystemExit("serverflow: this account takes signed commands only")
    try:
        Session(request.group(1)).run()
    except (Gone, BrokenPipeError, ConnectionResetError):
        os._exit(1)
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
