"""What `sf key`, `sf trust` and their neighbours refuse before, or tell beside, what their flows do."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverflow_cli.errors import UsageError
from serverflow_cli.model.result import CommandResult

from .test_cli_run import CHANGED, FakeFlows, sf


@pytest.mark.parametrize(
    "line",
    [
        "key deploy ci --allow app.show --on all --expires 0s --yes",
        "key grant ci --expires 0d --yes",
        "trust renew --expires 0h --yes",
        "key deploy ci --allow app.show --on all --expires 999999999d --yes",
        "trust renew --expires 999999999d --yes",
    ],
)
def test_a_key_lives_for_some_time_and_not_for_ever(line: str) -> None:
    flows = FakeFlows(CHANGED)
    ended = sf(line, flows)
    assert (ended.code, flows.calls) == (2, [])
    assert ended.err.startswith("sf: error: --expires: ")


@pytest.mark.parametrize("option", ["--on web1", "--where app=shop"])
@pytest.mark.parametrize("command", ["key add FILE", "key grant ci --expires 90d"])
def test_what_narrows_nothing_is_refused(tmp_path: Path, command: str, option: str) -> None:
    """Without --allow an invitation's key may do everything everywhere, whatever else the line says."""
    (tmp_path / "invitation").write_text("schema = 1\n")
    flows = FakeFlows(CHANGED)
    ended = sf(f"{command.replace('FILE', str(tmp_path / 'invitation'))} {option} --yes", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert f"{option.split()[0]} needs --allow" in ended.err


def test_an_invitation_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file or directory")):
        ended = sf(f"key add {file} --yes", FakeFlows(CHANGED))
        assert (ended.code, ended.err) == (3, f"sf: error: {file} cannot be read: {reason}\n")
    ended = sf(f"key add {tmp_path / 'binary'} --yes", FakeFlows(CHANGED))
    assert (ended.code, ended.err) == (3, f"sf: error: {tmp_path / 'binary'} cannot be read: it is not UTF-8 text\n")


def test_a_missing_file_comes_before_a_missing_yes(tmp_path: Path) -> None:
    ended = sf(f"secret import {tmp_path / 'none'}", FakeFlows(CHANGED))
    assert (ended.code, "No such file" in ended.err) == (3, True)
    (tmp_path / "env").write_text("A=b\n")
    flows = FakeFlows(CHANGED)
    ended = sf(f"secret import {tmp_path / 'env'}", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert "sf: hint: add --yes" in ended.err


def test_an_unknown_server_comes_before_a_missing_yes() -> None:
    ended = sf("server rekey web9 --identity", FakeFlows(UsageError("no server is called web9")))
    assert ended.err == "sf: error: no server is called web9\n"
    ended = sf("server rekey web1 --identity", FakeFlows(CHANGED, asks=True))
    assert (ended.code, "sf: hint: add --yes" in ended.err) == (2, True)


NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
SAME = CommandResult(
    "acme", data={"version": 3, "same": True, "actions": NOTHING, "files": NOTHING}, notes=("the same: version 3",)
)


def test_a_bundle_that_is_the_same_is_told_in_one_line() -> None:
    ended = sf("registry diff", FakeFlows(SAME))
    assert (ended.code, ended.out, ended.err) == (0, "", "sf: note: the same: version 3\n")
    assert sf("registry diff --json", FakeFlows(SAME)).document["data"]["files"] == NOTHING
