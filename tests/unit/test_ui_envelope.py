"""The JSON envelope against its published schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.errors import ConfigError, Unreachable
from serverflow_cli.model.result import CommandResult, Reply, ServerResult
from serverflow_cli.ui.envelope import dumps, envelope, output_line

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs/reference/envelope.schema.json").read_text())
CHANGE = Change("update", "file", "/etc/a", {"mode": (None, "0640")}, "-a\n+b\n", "note")
REPLY = Reply("01JD", "done", (CHANGE,), {"size": 3}, {"password": "x"}, "ab" * 32, {}, ("slow",))


@pytest.mark.parametrize(
    "document",
    [
        envelope(CommandResult()),
        envelope(CommandResult("acme", "01JD", (ServerResult("web1", REPLY),), {"a": [1]}, ("note",))),
        envelope(
            CommandResult("acme", "01JD", (ServerResult("web1", REPLY), ServerResult("w", error=Unreachable("x"))))
        ),
        envelope(CommandResult(servers=(ServerResult("skipped"),))),
        envelope(CommandResult(), ConfigError("no fleet.toml", hint="sf init")),
        output_line("web1", "text"),
    ],
)
def test_documents_fit_the_schema(document: dict[str, object]) -> None:
    jsonschema.Draft202012Validator(PUBLISHED).validate(json.loads(dumps(document)))


def test_the_schema_is_itself_valid_and_closed() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    surplus = {**envelope(CommandResult()), "surplus": 1}
    assert not jsonschema.Draft202012Validator(PUBLISHED).is_valid(surplus)


def test_a_document_is_one_ascii_line() -> None:
    text = dumps(envelope(CommandResult("acme", data={"x": "\x1b[2J\u202e\n\x9b"})))
    assert text.isascii()
    assert text.isprintable()


def test_ok_follows_the_servers() -> None:
    failed = CommandResult(servers=(ServerResult("web1", error=Unreachable("x", hint="y")),))
    assert envelope(failed)["ok"] is False
    assert envelope(failed)["servers"][0]["outcome"] == "unreachable"
    assert envelope(CommandResult())["ok"] is True
