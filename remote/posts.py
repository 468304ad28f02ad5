"""Alerts as HTTP requests: Slack's incoming webhooks, Standard Webhooks, Resend's API for mail.

- docs.slack.dev: messaging/sending-messages-using-incoming-webhooks, reference/block-kit/blocks
- github.com/standard-webhooks/standard-webhooks, spec 1.0.0
- resend.com/docs: api-reference/emails/send-email, dashboard/emails/idempotency-keys
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple
from urllib.parse import SplitResult, urlsplit

import store
import wording
from channels import Channel, signing_key
from said import FAILED, REFUSED, SENT, Said, why

SECONDS = 10
RESEND = "https://api.resend.com/emails"

#: Of a header block and of the text of a section (Block Kit).
_HEADER_LIMIT, _SECTION_LIMIT = 150, 3000
_ANSWER_LIMIT = 2048
#: Of 4xx, these may be another answer later: a timeout, a conflict, too early, too many.
_PASSING = (408, 409, 425, 429)
_LONGEST_WAIT = 3600
#: The other side's name for what is wrong, such as `invalid_payload`: no sentence, and hardly a secret.
_ERROR_NAME = re.compile(r"[a-z]{2,20}(?:_[a-z]{2,20}){0,4}\Z")


class Post(NamedTuple):
    """One request. Its URL and headers can be secret."""

    url: str
    headers: dict[str, str]
    body: bytes


def send(channel: Channel, event: Mapping[str, Any], now: int) -> Said:
    """One request, straight to where the URL says: through no proxy, after no redirect."""
    post = _post(channel, event, now)
    url = urlsplit(post.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    # Resend refuses requests without a User-Agent.
    headers = {"User-Agent": "serverflow", "Connection": "close", "Content-Type": "application/json", **post.headers}
    try:
        with contextlib.closing(_connection(url)) as connection:
            connection.request("POST", path, post.body, headers)
            response = connection.getresponse()
            # It is taken by now, whether or not the rest of the answer comes.
            name = "" if response.status < 300 else _error_name(_beginning(response))
            return _judge(response, "" if name in str(channel.settings) else name)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return why(error)


def _post(channel: Channel, event: Mapping[str, Any], now: int) -> Post:
    if channel.provider == "webhook":
        return _webhook(channel, event, now)
    return _slack(channel, event) if channel.provider == "slack" else _resend(channel, event)


def _beginning(response: http.client.HTTPResponse) -> bytes:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return response.read(_ANSWER_LIMIT)
    return b""


def _judge(response: http.client.HTTPResponse, name: str) -> Said:
    status = response.status
    if 200 <= status < 300:
        return Said(SENT, f"it answered {status}")
    words = f"it answered {status}" + (f", {name}" if name else "")
    if 300 <= status < 400:
        return Said(REFUSED, f"{words}: it is somewhere else now, and redirects are not followed")
    if 400 <= status < 500 and status not in _PASSING:
        return Said(REFUSED, words)
    wait = response.headers.get("Retry-After", "")
    return Said(FAILED, words, min(int(wait), _LONGEST_WAIT) if re.fullmatch(r"[0-9]{1,6}", wait, re.ASCII) else 0)


def _error_name(answer: bytes) -> str:
    """Slack says the name alone, Resend as `name` of an object."""
    text = answer.decode("ascii", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(text)
        text = str(told.get("name", "")) if isinstance(told, dict) else ""
    return text if _ERROR_NAME.match(text) else ""


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    """With the port always said: without one, http.client takes the end of an IPv6 address for it."""
    host = url.hostname or ""
    if url.scheme == "https":
        return http.client.HTTPSConnection(host, url.port or 443, timeout=SECONDS, context=tls())
    return http.client.HTTPConnection(host, url.port or 80, timeout=SECONDS)


def tls() -> ssl.SSLContext:
    """Certificates count by the system's store and by name."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


# --- Slack -----------------------------------------------------------------------------------------------------------


def _slack(channel: Channel, event: Mapping[str, Any]) -> Post:
    return Post(channel.settings["url"], {}, store.encode(slack_message(event)))


def slack_message(event: Mapping[str, Any]) -> dict[str, Any]:
    """Blocks, and `text` for notifications. In none of them can an event make a link or call anybody."""
    subject = wording.subject(event)
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _within(subject, _HEADER_LIMIT, wording.line), "emoji": False},
        }
    ]
    text = event["text"].strip("\n").replace("```", "'''")
    if text:
        fenced = f"```\n{_within(text, _SECTION_LIMIT - 8)}\n```"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": fenced, "verbatim": True}})
    facts = _within("\n".join(wording.facts(event)), _SECTION_LIMIT)
    blocks.append({"type": "context", "elements": [{"type": "plain_text", "text": facts, "emoji": False}]})
    return {"text": _within(subject, _SECTION_LIMIT), "blocks": blocks}


def _within(text: str, limit: int, cut: Callable[[str, int], str] = wording.cut) -> str:
    """Escaped as Slack asks for, and no longer than that with its escapes, of which none is cut in two."""
    room = limit
    while True:
        escaped = cut(text, room).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        if len(escaped) <= limit:
            return escaped
        room = room * 3 // 4


# --- Standard Webhooks -----------------------------------------------------------------------------------------------


def _webhook(channel: Channel, event: Mapping[str, Any], now: int) -> Post:
    """The time is the attempt's, the id the event's, whichever attempt it is."""
    body = store.encode(event)
    signed = b".".join([event["id"].encode(), str(now).encode(), body])
    digest = hmac.new(signing_key(channel.settings["secret"]), signed, hashlib.sha256).digest()
    headers = {
        "webhook-id": event["id"],
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    return Post(channel.settings["url"], headers, body)


# --- Resend ----------------------------------------------------------------------------------------------------------


def _resend(channel: Channel, event: Mapping[str, Any]) -> Post:
    settings = channel.settings
    message = {
        "from": settings["sender"],
        "to": settings["to"],
        "subject": wording.subject(event),
        "text": wording.body(event),
        "headers": {"Auto-Submitted": "auto-generated"},
    }
    # With the channel's name: two channels of one account send two mails about one event.
    key = f"{event['id']}-{channel.name}"
    return Post(RESEND, {"Authorization": f"Bearer {settings['token']}", "Idempotency-Key": key}, store.encode(message))
