"""`sf op`, and whatever else takes the id of an operation: whole, or how it begins."""

from __future__ import annotations

import pytest

from serverflow_cli.errors import UsageError
from serverflow_cli.model.result import CommandResult

from .test_cli_run import OP, FakeFlows, sf

LINES = [
    ("op status {}", "op_status"),
    ("op follow {}", "op_follow"),
    ("op cancel {} --yes", "op_cancel"),
    ("safe show {} --on web1", "safe_show"),
    ("safe confirm {} --on web1", "run_action"),
    ("safe rollback {} --on web1 --yes", "run_action"),
]


@pytest.mark.parametrize(("line", "flow"), LINES)
def test_how_an_id_begins_is_looked_up(line: str, flow: str) -> None:
    flows = FakeFlows(CommandResult("acme", data={"op": OP}))
    assert sf(line.format(OP[:6].lower()), flows).code == 0
    (_, looked_up, _), (name, arguments, options) = flows.calls
    assert flows.calls[0][0] == "op_named" and looked_up[1] == OP[:6]
    assert name == flow and OP in str((arguments, options))


@pytest.mark.parametrize(("line", "flow"), LINES)
def test_a_whole_id_is_taken_as_it_is(line: str, flow: str) -> None:
    """It may have been sent from elsewhere."""
    flows = FakeFlows(CommandResult("acme"))
    assert sf(line.format(OP.lower()), flows).code == 0
    assert [name for name, _, _ in flows.calls] == [flow]


@pytest.mark.parametrize("wrong", [OP[:5], f"{OP}0", "01JD0U", "81JD00", "01JD0!", "01JD0\u0661"])
def test_what_is_no_id_is_looked_up_nowhere(wrong: str) -> None:
    flows = FakeFlows(CommandResult("acme"))
    ended = sf(f"op follow {wrong}", flows)
    assert (ended.code, flows.calls) == (2, []) and "is not an operation id" in ended.err
    assert "its first 6 characters or more are enough" in ended.err


def test_nothing_is_done_where_it_is_not_clear_which_one_is_meant() -> None:
    flows = FakeFlows(UsageError(f"2 operations begin with {OP[:6]}\n{OP}  cert.issue", hint="more"))
    ended = sf(f"op cancel {OP[:6]} --yes", flows)
    assert ended.code == 2 and len(flows.calls) == 1
    assert ended.err.splitlines()[:2] == [f"sf: error: 2 operations begin with {OP[:6]}", f"  {OP}  cert.issue"]
