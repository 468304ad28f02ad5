"""The harnesses for atheris: each gives one input to every reader that it might be meant for, on both sides.

An error that the reader documents is an answer. Beyond that, what both sides read must mean the same to both.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

READERS: dict[str, tuple[str, ...]] = {
    "frames": ("verify.parse_signed", "sshsig.unpack_signed", "frames", "hello.verified", "hello.signed_body"),
    "sshsig": ("verify.parse_sshsig", "sshsig.verify", "sshsig.dearmor", "verify.ed25519_verify"),
    "json": (
        "strict.parse_json", "messages.parse_command", "messages.parse_trust", "messages.parse_bundle",
        "authorise.check_secrets", "trustfile.parse", "bundle.parse", "answers.parse", "answers.hello",
        "answers.receipt", "answers.shown", "answers.event",
    ),
}  # fmt: skip


def seeds_of(harness: str) -> set[bytes]:
    """Valid messages of the kinds that its readers take."""
    from .parsers import BYTES

    return {seed for name in READERS[harness] for seed in BYTES[name].seeds}


def fuzz(harness: str, options: list[str]) -> None:
    """Until the time is over, or something breaks. Does not return."""
    import atheris

    sys.path.insert(0, str(Path(__file__).parents[2] / "remote"))
    packages = ["verify", "strict", "messages", "authorise", "serverflow_cli.trust", "serverflow_cli.rpc"]
    silent = contextlib.redirect_stderr(io.StringIO())  # it names each module
    with silent, atheris.instrument_imports(include=[*packages, "serverflow_cli.transport.frames"]):
        from .parsers import BYTES, quietly

    readers = [BYTES[name] for name in READERS[harness]]
    agree = AGREEMENTS[harness]
    nowhere = Path("/nonexistent")

    def one(data: bytes) -> None:
        for reader in readers:
            quietly(lambda: reader.read(data, nowhere), reader.raises)  # noqa: B023  (called at once)
        agree(data)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def _frames_agree(data: bytes) -> None:
    """A frame that the server takes apart is taken apart by the client in the same way."""
    import verify
    from serverflow_cli.trust import sshsig

    with contextlib.suppress(verify.Refused):
        there = verify.parse_signed(data)
        assert sshsig.unpack_signed(data) == (list(there.blobs), there.body)


def _signatures_agree(data: bytes) -> None:
    """What libsodium verifies, the server's own Ed25519 does, and the other way round."""
    import verify
    from serverflow_cli.errors import TrustError
    from serverflow_cli.trust import sshsig

    theirs = ours = b""
    with contextlib.suppress(verify.Refused):
        parsed = verify.parse_sshsig(data)
        theirs = parsed.public_key if parsed.namespace == sshsig.TRUST and parsed.signs(b"x") else b""
    with contextlib.suppress(TrustError):
        ours = sshsig.verify(data, sshsig.TRUST, b"x")
    assert ours == theirs


def _json_agrees(data: bytes) -> None:
    """What a strict reader takes, every reader takes for the same; and a trust file, both sides or neither."""
    import messages
    import strict
    import verify
    from serverflow_cli.errors import TrustError
    from serverflow_cli.trust import trustfile

    with contextlib.suppress(strict.Malformed):
        assert strict.parse_json(data, verify.FRAME_LIMIT) == json.loads(data)
    with contextlib.suppress(TrustError):
        trust = trustfile.parse(data)
        assert messages.parse_trust(data).version == trust.version


AGREEMENTS: dict[str, Callable[[bytes], None]] = {
    "frames": _frames_agree,
    "sshsig": _signatures_agree,
    "json": _json_agrees,
}
