"""Alerts of a target, caused and looked at beside SSH; and the form that providers have documented for them."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema

from serverflow_actions.kit import events

from .pending import RUNNER
from .target import Target
from .victim import STATE

CHANNELS = "/etc/serverflow/notify"
ALERTS = f"{STATE}/alerts"
_EMIT = """
import json, sys
sys.path.insert(0, "/usr/local/libexec/serverflow/current")
import alerts
alerts.emit(**json.load(sys.stdin))
"""


def emit(target: Target, kind: str, key: str, **fields: Any) -> None:
    """As any part of the server tells something."""
    told = {"kind": kind, "key": key, "title": f"{key} is wrong", **fields}
    target.run("/usr/bin/python3", "-IS", "-c", _EMIT, input=json.dumps(told))


def spooled(target: Target, folder: str = ALERTS) -> list[dict[str, Any]]:
    """The letters in the spool."""
    told = target.run("sh", "-c", f"cat {folder}/spool/*.json 2>/dev/null; true").stdout
    decoder, found = json.JSONDecoder(), []
    while told := told.lstrip():
        letter, end = decoder.raw_decode(told)
        found.append(letter)
        told = told[end:]
    return found


def due(target: Target, folder: str = ALERTS) -> None:
    """Let the time come of all that waits."""
    for letter in spooled(target, folder):
        for entry in letter["to"].values():
            entry["next"] = 0
        target.run("sh", "-c", f"cat > {folder}/spool/{letter['event']['id']}.json", input=json.dumps(letter))


def due_now(target: Target, folder: str = ALERTS) -> None:
    """The same, and have it sent; returns when that is done."""
    due(target, folder)
    target.run(RUNNER, "deliver")


def check_event(event: Any) -> None:
    """By the published schema."""
    jsonschema.Draft202012Validator(events.schema()).validate(event)


# --- Slack: docs.slack.dev/reference/block-kit/blocks and …/composition-objects/text-object --------------------------


def check_slack(message: dict[str, Any]) -> None:
    """What Slack documents of a message with the blocks that we use: fields, types and limits."""
    assert set(message) == {"text", "blocks"}
    assert 1 <= len(message["text"]) <= 4000  # longer ones should be cut, says chat.postMessage
    assert 1 <= len(message["blocks"]) <= 50
    for block in message["blocks"]:
        _BLOCKS[block["type"]](block)


def _header(block: dict[str, Any]) -> None:
    assert set(block) <= {"type", "text", "block_id", "level"}
    assert block["text"]["type"] == "plain_text"
    _check_text(block["text"], 150)


def _section(block: dict[str, Any]) -> None:
    assert set(block) <= {"type", "text", "fields", "block_id", "accessory", "expand"}
    _check_text(block["text"], 3000)


def _context(block: dict[str, Any]) -> None:
    assert set(block) <= {"type", "elements", "block_id"}
    assert 1 <= len(block["elements"]) <= 10
    for element in block["elements"]:
        _check_text(element, 3000)


_BLOCKS = {"header": _header, "section": _section, "context": _context}


def _check_text(text: dict[str, Any], limit: int) -> None:
    """A text object. `&`, `<` and `>` are written as entities, so that nothing becomes a link or calls anybody."""
    own = {"plain_text": "emoji", "mrkdwn": "verbatim"}[text["type"]]
    assert set(text) <= {"type", "text", own} and type(text.get(own, False)) is bool
    assert 1 <= len(text["text"]) <= limit
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", text["text"]), text["text"]


# --- Resend: resend.com/docs/api-reference/emails/send-email ---------------------------------------------------------

_MAILBOX = {"type": "string", "pattern": r"^([^<>]+ <[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)$"}
_MAILBOXES = {"anyOf": [_MAILBOX, {"type": "array", "items": _MAILBOX, "minItems": 1, "maxItems": 50}]}
RESEND = {
    "type": "object",
    "required": ["from", "to", "subject"],
    "properties": {
        "from": _MAILBOX, "to": _MAILBOXES, "cc": _MAILBOXES, "bcc": _MAILBOXES, "reply_to": _MAILBOXES,
        "subject": {"type": "string", "minLength": 1, "pattern": r"^[^\r\n]*$"},
        "html": {"type": "string"}, "text": {"type": "string"}, "scheduled_at": {"type": "string"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "attachments": {"type": "array"}, "tags": {"type": "array"}, "topic_id": {"type": "string"},
    },
    "anyOf": [{"required": ["text"]}, {"required": ["html"]}],
    "additionalProperties": False,
}  # fmt: skip
