"""Why an authority could not be spoken to, in one sentence: certbot shows the words of requests and urllib3."""

from __future__ import annotations

import re

_HOST = r"(?P<{}>[][A-Za-z0-9.:_-]{{1,253}})"
#: certbot's last words: the exception itself, or what acme.client.ClientNetwork makes of one with an errno above zero.
#: Only there: an authority tells of connections of its own that failed, and those are others.
_REQUEST = re.compile(
    r"An unexpected error occurred: (?:"
    rf"requests\.exceptions\.\w+: HTTPS?ConnectionPool\(host='{_HOST.format('pool')}', port=\d+\): "
    rf"|ValueError: Requesting {_HOST.format('asked')}/\S*: "
    r"|requests\.exceptions\.\w+: (?=\('Connection aborted\.'))(?P<words>.*)"  # of whom it does not say
)
_MEANING = (
    (r"NameResolutionError|Name or service not known|name resolution|No address associated", "cannot be resolved"),
    (r"Connection refused", "refuses the connection"),
    (r"Network is unreachable|No route to host", "cannot be reached from here"),
    (r"timed out", "does not answer"),
    (r"CERTIFICATE_VERIFY_FAILED|CertificateError", "shows a certificate that is not trusted"),
    (r"Connection aborted", "closes the connection without an answer"),
)
#: OpenSSL's reason, such as `certificate has expired` or `self-signed certificate`.
_REASON = re.compile(r"certificate verify failed: ([A-Za-z -]+)")
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>(?:: |, )?")


def plain(said: str) -> str:
    """certbot's words, in one line; one sentence where the connection failed in a usual way. Never with addresses of
    Python's objects, which are others each time.
    """
    found = _REQUEST.search(said)
    if found and "ProxyError" not in found["words"]:  # else the host is not the one that failed
        for pattern, meaning in _MEANING:
            if re.search(pattern, found["words"]):
                reason = _REASON.search(found["words"])
                why = f": {reason[1].strip().lower()}" if reason else ""
                who = " ".join(filter(None, ("the authority", found["pool"] or found["asked"])))
                return f"{who} {meaning}{why}"
    return _OBJECT.sub("", said)
