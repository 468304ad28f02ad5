"""What became of one attempt to send, in words of ours.

Exceptions of http.client, smtplib and ssl can hold a URL or a password, and what the other side says is a stranger's
word: neither goes any further than here.
"""

from __future__ import annotations

import http.client
import ssl
from typing import NamedTuple

VERDICTS = SENT, REFUSED, FAILED, UNREACHABLE, UNANSWERED = "sent", "refused", "failed", "unreachable", "unanswered"


class Said(NamedTuple):
    """`verdict`: sent; refused, which another attempt will hardly change; failed, which it may; unreachable, when no
    answer came at all; unanswered, when the other side has all of the message and may well have taken it. `wait` are
    the seconds that the other side asks for. `left` are the recipients that another attempt is for; none where it is
    for whoever this one was for.
    """

    verdict: str
    words: str
    wait: int = 0
    left: tuple[str, ...] = ()


def why(error: Exception) -> Said:
    """An exception as an outcome."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Said(UNREACHABLE, f"its certificate does not count: {_certificate(error)}")
    if isinstance(error, ssl.SSLError):
        return Said(UNREACHABLE, "it does not speak TLS as it should")
    if isinstance(error, http.client.HTTPException):
        return Said(UNREACHABLE, "it does not speak HTTP")
    if isinstance(error, OSError):
        return Said(UNREACHABLE, error.strerror or "no answer in time")
    return Said(FAILED, f"it could not be sent ({type(error).__name__})")


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    """X509_verify_cert_error_string(3); for a wrong name Python puts the name there instead."""
    return "it is made out to another name" if error.verify_code in (62, 64) else str(error.verify_message)
