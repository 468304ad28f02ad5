"""certbot's hook, `runner cert-hook FOLDER`: put the answer to a challenge into DNS, and return when all name servers
have it. What was put there is noted first, so that it can be taken out whatever comes between.

certbot would ask the authority to look even after a hook that failed, and a failed validation counts against a limit:
so a hook that fails ends certbot.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import certdns
import certspread
import store

if TYPE_CHECKING:
    from certacme import Order

#: In the folder of the certificate: what is in DNS now, [[NAME, VALUE], …]; and why a hook has failed.
_PLACED, _REASON = "placed", "reason"
_PREFIX = "_acme-challenge."


def main(folder: str) -> None:
    """CERTBOT_DOMAIN is the name without `*.`, CERTBOT_VALIDATION the value of its TXT record (RFC 8555, 8.4)."""
    import certacme

    try:
        put(certacme.Order.read(), folder, os.environ["CERTBOT_DOMAIN"], os.environ["CERTBOT_VALIDATION"])
    except certdns.Failed as error:
        said = str(error)
    except Exception as error:  # whatever it is, certbot must not go on
        said = f"the hook broke off: {type(error).__name__}"
    else:
        return
    try:
        sys.stderr.write(said + "\n")
        store.write_file(f"{folder}/{_REASON}", said.encode())
    finally:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def put(found: Order, folder: str, domain: str, value: str) -> None:
    """Put it there, and wait for every authoritative server. Raises Failed."""
    name = certspread.owner(f"{_PREFIX}{domain.rstrip('.').lower()}", found.wish.zone)
    store.write_file(f"{folder}/{_PLACED}", json.dumps([*_placed(folder), [name, value]]).encode())
    certdns.change(found.wish, found.credential, "add", name, value)
    certspread.wait(found.wish.zone, name, value)


def take_out(found: Order, folder: str) -> str:
    """Take all out that was noted. Returns why something is left, "" when nothing is: it will be tried again."""
    left, said = [], ""
    for name, value in _placed(folder):
        try:
            certdns.change(found.wish, found.credential, "delete", name, value)
        except certdns.Failed as error:
            left.append([name, value])
            said = str(error)
    with contextlib.suppress(FileNotFoundError):
        if left:
            store.write_file(f"{folder}/{_PLACED}", json.dumps(left).encode())
        else:
            os.unlink(f"{folder}/{_PLACED}")
    return said


def _placed(folder: str) -> list[tuple[str, str]]:
    try:
        found = json.loads(store.read_file(f"{folder}/{_PLACED}") or b"[]")
        return [(str(name), str(value)) for name, value in found]
    except (ValueError, TypeError):
        return []


def reason(folder: str) -> str:
    return (store.read_file(f"{folder}/{_REASON}") or b"").decode("utf-8", "replace")


def clear_reason(folder: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/{_REASON}")
