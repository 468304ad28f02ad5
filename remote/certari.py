"""When to renew by the authority's word: ACME Renewal Information, RFC 9773. Asked in a process without rights."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import re
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import apart

_LIMIT = 64 << 10
_TIMEOUT_S = 15
_SECONDS = 45
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_URL_LIMIT = 500


class Answer(NamedTuple):
    """`window` in seconds, (0, 0) where the authority has none to offer, `said` is why. `retry_after` in seconds, 0
    where it does not say. `offered` is false for an authority that knows no such thing.
    """

    window: tuple[int, int] = (0, 0)
    retry_after: int = 0
    explanation: str = ""
    said: str = ""
    offered: bool = True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def identifier(authority_key: bytes, serial: int) -> str:
    """The certificate's name there, section 4.1: base64url of the key identifier, and of the serial number in DER."""
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")  # the leading bit of a DER INTEGER is its sign
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (authority_key, number))


def ask(directory: str, certificate: str, now: int, not_after: int) -> Answer:
    """Ask the authority. Never raises."""
    told = apart.perform(lambda: _asked(directory, certificate, now, not_after)._asdict(), _SECONDS)
    if not isinstance(told, dict) or set(told) != set(Answer._fields):
        return Answer(said="it could not be asked")
    try:
        start, end = told["window"]
        retry, offered = told["retry_after"], told["offered"]
        if not all(type(each) is int for each in (start, end, retry)) or type(offered) is not bool:
            raise ValueError
        if (start, end) != (0, 0):
            check_window(start, end, not_after)
        # The process has met a stranger, and may be one.
        return Answer((start, end), max(retry, 0), _line(told["explanation"]), _line(told["said"]), offered)
    except (TypeError, ValueError):
        return Answer(said="its answer makes no sense")


def _line(text: Any) -> str:
    return "".join(c for c in str(text) if c.isprintable())[:_URL_LIMIT]


def _asked(directory: str, certificate: str, now: int, not_after: int) -> Answer:
    try:
        base = json.loads(_get(directory)[0]).get("renewalInfo")
        if base is None:
            return Answer(said="the authority does not offer it", offered=False)
        if not isinstance(base, str) or not base.startswith("https://"):
            raise ValueError("its URL is none")
        content, retry = _get(f"{base.rstrip('/')}/{certificate}")
        return parse(content, retry, now, not_after)
    except urllib.error.HTTPError as error:
        return Answer(retry_after=seconds(error.headers.get("Retry-After", ""), now), said=f"it answered {error.code}")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Answer(said=f"no answer: {getattr(reason, 'strerror', None) or type(reason).__name__}")
    except (ValueError, AttributeError, RecursionError) as error:
        return Answer(said=f"its answer makes no sense: {_line(error)}")


def _get(url: str) -> tuple[bytes, str]:
    if urlsplit(url).scheme != "https":
        raise ValueError("not an https URL")
    headers = {"User-Agent": "serverflow", "Accept": "application/json"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (https, as was just checked)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        return answer.read(_LIMIT), answer.headers.get("Retry-After", "")


def parse(content: bytes, retry_after: str, now: int, not_after: int) -> Answer:
    """The RenewalInfo object, section 4.2. Raises ValueError for what is none."""
    value = json.loads(content)
    window = value.get("suggestedWindow") if isinstance(value, dict) else None
    if not isinstance(window, dict):
        raise ValueError("there is no window in it")
    start, end = moment(window.get("start")), moment(window.get("end"))
    check_window(start, end, not_after)
    explanation = value.get("explanationURL")
    shown = _line(explanation) if isinstance(explanation, str) and explanation.startswith("https://") else ""
    return Answer((start, end), seconds(retry_after, now), shown)


def check_window(start: int, end: int, not_after: int) -> None:
    """Raises ValueError. A window that lies in the past is fine: it means at once."""
    if end <= start:
        raise ValueError("its window ends before it begins")
    if start >= not_after:
        raise ValueError("its window begins when the certificate has expired")


def moment(text: Any) -> int:
    """RFC 3339 as seconds. Raises ValueError."""
    found = _MOMENT.match(text) if isinstance(text, str) else None
    if not found:
        raise ValueError("a time is not one of RFC 3339")
    zone = "+00:00" if found.group(3) in "Zz" else found.group(3)
    return int(datetime.datetime.fromisoformat(f"{found.group(1)}T{found.group(2)}{zone}").timestamp())


def seconds(retry_after: str, now: int) -> int:
    """Retry-After, RFC 9110 section 10.2.3, from now on; 0 for what is neither seconds nor a date."""
    if re.match(r"[0-9]{1,9}\Z", retry_after, re.ASCII):
        return int(retry_after)
    try:
        return max(0, int(parsedate_to_datetime(retry_after).timestamp()) - now)
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0
