"""Which certificate a server really serves: a TLS connection to it, and what it shows there."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

import apart
from serverflow_actions.kit.certificate import Endpoint, endpoint

_TIMEOUT_S = 5
_PAUSE_S = 0.25
#: Besides the wait: for the last connections to end.
_SPARE_S = 20


def wrong(endpoints: Sequence[str], fingerprint: str, wait_s: int) -> str:
    """Which of these endpoints (kit/certificate.py) does not serve the certificate with this SHA-256, and what it does
    instead; "" when all do. A reload takes a moment: they are asked for up to `wait_s` seconds.
    """
    if not endpoints:
        return ""
    work = [(text, *endpoint(text)) for text in endpoints]
    told = apart.perform(lambda: _asked(work, fingerprint, wait_s), wait_s + _SPARE_S + _TIMEOUT_S * len(work))
    return "".join(c for c in told if c.isprintable())[:1000] if isinstance(told, str) else "they could not be asked"


def _asked(work: Sequence[Any], fingerprint: str, wait_s: int) -> str:
    deadline = time.monotonic() + wait_s
    left = list(work)
    while True:
        answers = [(one, _shown(Endpoint(*one[1:]))) for one in left]
        left = [one for one, answer in answers if answer != fingerprint]
        if not left:
            return ""
        if time.monotonic() >= deadline:
            return "; ".join(_sentence(one[0], answer) for one, answer in answers if answer != fingerprint)
        time.sleep(_PAUSE_S)


def _sentence(place: str, answer: str) -> str:
    is_one = len(answer) == 64 and " " not in answer
    return f"{place} serves another certificate (SHA-256 {answer[:16]}…)" if is_one else f"{place}: {answer}"


def _shown(where: Endpoint) -> str:
    """The SHA-256 of the certificate that it shows, in hex, or why it shows none. Whom it is from is not asked here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((where.address, where.port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=where.name) as connection,
        ):
            found = connection.getpeercert(binary_form=True)
    except ssl.SSLError:
        return "it does not speak TLS as it should"
    except OSError as error:
        return (error.strerror or "no answer in time").lower()
    return hashlib.sha256(found).hexdigest() if found else "it shows no certificate"
