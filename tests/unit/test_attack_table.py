"""The table in docs/security.md is what the tests say, and nothing of what must be refused is without a test."""

from __future__ import annotations

import pytest

from ..attack_table import PAGE, attacks, page

#: "What must be refused" of the protocol's design.
MUST_BE_REFUSED = (
    "replay", "another server's command", "stale command", "skewed clock (works)", "tampered command or parameter",
    "tampered bundle", "unknown key", "revoked key, by signature", "revoked key, by SSH login", "expired key",
    "downgraded bundle", "downgraded trust", "key without permission", "parameter outside its constraint",
    "scheduling what one may not run", "wrong namespace", "a command signature used as trust or bundle", "S + L",
    "small-order key or point", "host key change", "path traversal", "symlink race",
    "shell metacharacters in each parameter", "leading dash in each parameter", "oversized input", "slow input",
    "truncated frame", "output flood", "fork bomb", "memory bomb", "timeout with a setsid child",
    "SSH drop in mid-action", "disk full before burn", "disk full before receipt", "disk full by blobs",
    "SIGKILL of the runner", "SIGKILL of the executor", "reboot", "two operators at once",
    "a fleet folder swapped by someone with merge rights", "ssh -N -L", "ssh -N -R", "ssh -N -D", "sftp", "scp",
    "rsync", "environment variables", "PTY", "interactive shell with the deploy key",
    "arbitrary command with the deploy key", "subsystem request", "terminal escapes and markup in server output",
    "a forbidden act from inside a sandbox",
)  # fmt: skip


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.attack_table"


@pytest.mark.parametrize("name", MUST_BE_REFUSED)
def test_it_is_tried_on_a_real_server(name: str) -> None:
    assert [one for one in attacks() if one.name == name and one.file.startswith("tests/targets/")]
