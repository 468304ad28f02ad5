"""Answers of a server that someone has taken over: each is a clear refusal, none an internal error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serverflow_cli.errors import TrustError
from serverflow_cli.rpc import answers

HASH = "0" * 64
RECEIPT: dict[str, Any] = {
    "v": 1, "typ": "receipt", "body_sha256": HASH, "nonce": HASH, "challenge": HASH, "server_id": HASH, "op_id": "",
    "action": "service.restart", "action_version": 1, "mode": "run",
    "actor": {"name": "ana", "key": "SHA256:x", "says": "ana@laptop"}, "outcome": "done", "code": "", "message": "",
    "exit": {"code": None, "signal": None}, "started_at": 1, "finished_at": 2, "boot": "",
    "output": {"sha256": HASH, "length": 0, "truncated": False}, "sandbox": {"profile": "svc", "effective": {}},
    "changes": [{"verb": "run", "kind": "unit", "name": "cron.service", "fields": {"restart": [None, "active"]}}],
    "data": {}, "plan_sha256": "", "safe": None, "versions": {"trust": 1, "bundle": 1}, "base": None, "trigger": "",
    "anchor": "", "seq": 1, "prev_receipt": "",
}  # fmt: skip


def test_a_proper_receipt_is_read() -> None:
    assert answers.receipt(json.dumps(RECEIPT).encode(), "web1") == RECEIPT


@pytest.mark.parametrize(
    "change",
    [
        {"changes": "abc"},
        {"changes": [{"verb": "run"}]},
        {"changes": [{"verb": "run", "kind": "unit", "name": "x", "fields": {"a": 1}}]},
        {"changes": [{"verb": "run", "kind": "unit", "name": "x", "fields": "y"}]},
        {"finished_at": 10**18},
        {"finished_at": "now"},
        {"actor": None},
        {"actor": {"name": "ana"}},
        {"outcome": "splendid"},
        {"output": None},
        {"base": "x"},
        {"seq": -1},
        {"seq": True},
        {"v": 0},
        {"v": True},
        {"v": "1"},
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TrustError) as caught:
        answers.receipt(json.dumps({**RECEIPT, **change}).encode(), "web1")
    assert caught.value.code == "bad-answer"
    assert caught.value.server == "web1"


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"extra": 1}, {"v": 2, "extra": {"any": [None]}}, {"v": 2, "seq": "in words"}],
    ids=repr,
)
def test_a_newer_server_is_not_understood_by_halves(change: dict[str, Any]) -> None:
    with pytest.raises(TrustError) as caught:
        answers.receipt(json.dumps({**RECEIPT, **change}).encode(), "web1")
    assert (caught.value.code, caught.value.hint, caught.value.server) == ("newer-server", "update sf", "web1")


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b"\xff{}", b'{"a": NaN}', b'{"a": 1.5}', b'{"a": 1, "a": 2}', b'{"a": 1' + b"0" * 40 + b"}",
     b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a":' + b"[" * 30 + b"]" * 30 + b"}"],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_what_is_no_strict_json_is_refused(text: bytes) -> None:
    with pytest.raises(TrustError):
        answers.receipt(text, "web1")
    assert answers.event(text) == {}


def test_a_progress_frame_gives_text_and_nothing_else() -> None:
    assert answers.event(b'{"t": "output", "text": "forged"}') == {}
    assert answers.event(b'{"t": "op", "op": "x", "mode": "run", "action": "zzz"}') == {}
    assert answers.event(b'{"t": "step", "doing": "restart", "server": "db1"}') == {"t": "step", "doing": "restart"}
