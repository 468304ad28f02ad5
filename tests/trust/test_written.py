"""The record of what was written (remote/written.py): how large it gets, and how much of it a run is told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import layout
import messages
import verify
import worker
import written
from request import Request
from serverflow_actions.config._kinds import KINDS

from .conftest import Fleet, encode

SHA256 = "a" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "WRITTEN", str(tmp_path / "written"))
    monkeypatch.setattr(layout, "APPS", str(tmp_path))
    return tmp_path


def test_the_record_is_bounded_in_bytes_and_the_newest_stay() -> None:
    """As JSON each of these characters takes six bytes."""
    paths = [f"/srv/shop/{number}{'é' * 280}" for number in range(1000)]
    for begin in range(0, 1000, 100):
        written.remember(dict.fromkeys(paths[begin : begin + 100], SHA256))
    found = written.known()
    assert (200 << 10) < len(json.dumps(found)) <= (256 << 10)
    assert list(found) == paths[-len(found) :]


@pytest.mark.parametrize(
    ("action", "entry", "params", "told"),
    [
        ("config.set", {"writes": ["{kind=motd}/etc/motd.d"]}, {"kind": "motd"}, [KINDS["motd"].path]),
        ("config.set", {"writes": ["{kind=motd}/etc/motd.d"]}, {"kind": "sudoers"}, []),
        ("file.put", {"run_as": "app"}, {"app": "shop"}, ["/srv/shop/a", "/srv/shop/b/c"]),
        ("config.list", {"kind": "read"}, {}, [KINDS["motd"].path]),
        ("service.list", {"kind": "read"}, {}, []),
        ("service.start", {}, {"unit": "nginx"}, []),
    ],
)
def test_a_run_is_told_of_what_it_may_write(
    state: Path, fleet: Fleet, action: str, entry: dict[str, Any], params: dict[str, str], told: list[str]
) -> None:
    (state / "shop.json").write_text(json.dumps({"user": "shop", "data": ["/srv/shop"]}))
    paths = ["/srv/shop/a", "/srv/shop/b/c", "/srv/shopping", "/etc/motd", KINDS["motd"].path]
    written.remember(dict.fromkeys(paths, SHA256))
    command = messages.parse_command(encode(fleet.command(action=action, params=params)))
    declared = {"kind": "change", "module": "m", "writes": [], "run_as": "", **entry}
    request = Request(b"", verify.Signed("", (), b"", ()), command, declared, {}, {})
    assert request.job["written"] == dict.fromkeys(told, SHA256)


@pytest.mark.parametrize("line", [b"[" + b"1," * (1 << 19) + b"1]\n", b'{"t": "go"}'])
def test_an_answer_that_does_not_come_whole_is_named(line: bytes) -> None:
    with pytest.raises(SystemExit, match="cut off, or longer than 1 MiB"):
        worker.Link(io.BytesIO(line), io.BytesIO()).receive()
