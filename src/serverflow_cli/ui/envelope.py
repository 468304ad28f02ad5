"""The JSON document that every command prints with `--json`. Additions keep `serverflow/1`; nothing is taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import SfError
from ..model.result import CommandResult, ServerResult

SCHEMA = "serverflow/1"


def envelope(result: CommandResult, error: SfError | None = None) -> dict[str, Any]:
    """The document for a result. `error` is what the command as a whole failed with, if not told by its servers."""
    failure = error or result.error
    return {
        "schema": SCHEMA,
        "fleet": result.fleet,
        "op": result.op,
        "ok": failure is None,
        "error": _error(failure),
        "servers": [_server(server) for server in result.servers],
        "data": dict(result.data),
        "notes": list(result.notes),
    }


def output_line(server: str, text: str) -> dict[str, Any]:
    """One piece of a stream (logs, `op follow`); the envelope follows as the last line."""
    return {"schema": SCHEMA, "server": server, "output": text}


def dumps(document: Mapping[str, Any]) -> str:
    """One line, ASCII only: no terminal is driven by what a server put into it."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _server(server: ServerResult) -> dict[str, Any]:
    out: dict[str, Any] = {"name": server.name, "outcome": server.outcome, "error": _error(server.error)}
    reply = server.reply
    if reply:
        out["op_id"] = reply.op_id
        out["changes"] = [change.as_json() for change in reply.changes]
        out["data"] = dict(reply.data)
        out["plan_sha256"] = reply.plan_sha256
        out["notes"] = list(reply.notes)
        if reply.secrets:
            out["secrets"] = dict(reply.secrets)
    return out


def _error(error: SfError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "hint": error.hint}


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of both kinds of line; docs/reference/envelope.schema.json is this."""
    text = {"type": "string"}
    texts = {"type": "array", "items": text}
    mapping = {"type": "object"}
    error = _closed({"code": text, "message": text, "hint": text})
    maybe_error = {"oneOf": [{"type": "null"}, error]}
    change = _closed(
        {
            "verb": {"enum": ["create", "update", "delete", "run"]},
            "kind": text,
            "name": text,
            "fields": {"type": "object", "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2}},
            "diff": text,
            "note": text,
        },
        optional=("fields", "diff", "note"),
    )
    changes = {"type": "array", "items": change}
    reply = {
        "op_id": text,
        "changes": changes,
        "data": mapping,
        "plan_sha256": text,
        "notes": texts,
        "secrets": mapping,
    }
    server = _closed({"name": text, "outcome": text, "error": maybe_error, **reply}, optional=tuple(reply))
    head = {"schema": {"const": SCHEMA}, "fleet": text, "op": text, "ok": {"type": "boolean"}, "error": maybe_error}
    body = {"servers": {"type": "array", "items": server}, "data": mapping, "notes": texts}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `sf --json` prints",
        "description": "A result is one line. A stream is lines of `output`, then the result as the last line.",
        "oneOf": [_closed({**head, **body}), _closed({"schema": {"const": SCHEMA}, "server": text, "output": text})],
    }


def _closed(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, "additionalProperties": False}
