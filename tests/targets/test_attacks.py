"""What a server must refuse on the wire. The attacker has the operator's login and, mostly, the operator's key too.

Every attack asks for a restart of cron, or would leave a file or a user: the canary. `untouched` proves that it is as
it was, and that the very same client gets its way at once when it plays by the rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings as curve

from . import attacker
from .attack import attack
from .attacker import (
    BUNDLE,
    CHECKPOINT,
    COMMAND,
    HELLO,
    PINS,
    RECEIPT,
    TRUST,
    Key,
    L,
    Session,
    Sig,
    encode,
    framed,
    signed,
    to_be_signed,
)
from .operator import eventually
from .target import Fleet
from .victim import Victim, enrol, fresh_victim

#: Points whose multiples by eight are the neutral element, by their order ("Taming the many EdDSAs", table 5a).
SMALL_ORDER = {
    1: bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000"),
    2: bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    4: bytes(32),
    8: bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
}
CRON = {"unit": "cron"}
Frame = Callable[[Session, Victim], bytes]


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A key that no trust file has."""
    return Key.make(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
def harmless(victim: Victim, obedient: None) -> Iterator[None]:
    """The canary is where it was after each row of a table."""
    before = victim.canary()
    yield
    assert victim.canary() == before


@pytest.fixture(scope="class")
def obedient(victim: Victim) -> Iterator[None]:
    """After a whole table, a right command by the same client works."""
    yield
    with victim.untouched():
        pass


# --- replay ----------------------------------------------------------------------------------------------------------


@attack("replay", stopped_by="the challenge of HELLO, new for each connection")
def test_an_exchange_that_was_recorded_is_worth_nothing_on_another_connection(victim: Victim) -> None:
    with victim.client.session(shared=False) as session:
        assert session.ask("service.restart", CRON).verdict == "done"
        record, nonce = session.sent, session.nonce
    with victim.untouched(), victim.client.session(shared=False, nonce=nonce) as again:
        again.send(record)
        assert again.answer().verdict == "wrong-challenge"


@attack("the same operation id again", stopped_by="an id is burned before anything runs; its receipt is the answer")
def test_an_op_id_runs_once_and_is_answered_with_its_receipt(victim: Victim) -> None:
    op = attacker.new_op()
    first = victim.client.ask("service.restart", CRON, op_id=op)
    pid = victim.canary()
    with victim.client.session() as session:
        session.send_command(session.command("service.restart", CRON, op_id=op))
        again = session.answer()  # signed, but for the first command: its body_sha256, nonce and challenge
    assert (first.verdict, again.frames[-1]) == ("done", first.frames[-1])
    assert victim.canary() == pid


@attack("the same operation id again", stopped_by="an id is burned before anything runs; its receipt is the answer")
def test_an_op_id_that_was_used_does_not_cover_another_action(victim: Victim) -> None:
    op = attacker.new_op()
    assert victim.client.ask("service.restart", CRON, op_id=op).verdict == "done"
    with victim.untouched(), victim.client.session() as session:
        session.send_command(session.command("user.create", {"name": "mallory"}, op_id=op))
        assert session.answer().body["action"] == "service.restart"
    assert victim.target.run("id", "mallory", check=False).returncode != 0


# --- a right signature under a wrong command -------------------------------------------------------------------------

DENIED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "another server's": (lambda c: {"server_id": "ab" * 32}, "wrong-server"),
    "another connection's": (lambda c: {"challenge": "cd" * 32}, "wrong-challenge"),
    "a challenge in upper case": (lambda c: {"challenge": c["challenge"].upper()}, "bad-frame"),
    "issued too early": (lambda c: {"issued_at": c["issued_at"] - 300_001}, "stale"),
    "issued too late": (
        lambda c: {"issued_at": c["issued_at"] + 300_001, "expires_at": c["issued_at"] + 310_000}, "stale",
    ),
    "expired": (lambda c: {"issued_at": c["issued_at"] - 60_000, "expires_at": c["issued_at"] - 1}, "stale"),
    "expired before it was issued": (lambda c: {"expires_at": c["issued_at"] - 1}, "stale"),
    "living for no time": (lambda c: {"expires_at": c["issued_at"]}, "stale"),
    "living for too long": (lambda c: {"expires_at": c["issued_at"] + 300_001}, "stale"),
    "living for ever": (lambda c: {"expires_at": 2**53 - 1}, "stale"),
    "a trust version to come": (lambda c: {"trust_version": c["trust_version"] + 1}, "trust-ahead"),
    "no trust version": (lambda c: {"trust_version": 0}, "bad-frame"),
    "an action that is not granted": (lambda c: {"action": "service.frobnicate"}, "not-granted"),
    "a path as an action": (lambda c: {"action": "../../bin/sh"}, "bad-frame"),
    "a module as an action": (lambda c: {"action": "os.system"}, "not-granted"),
    "a newer version of an action": (lambda c: {"action_version": 2}, "action-version"),
    "version 0 of an action": (lambda c: {"action_version": 0}, "bad-frame"),
    "another protocol": (lambda c: {"v": 2}, "bad-frame"),
    "another type": (lambda c: {"typ": "trust"}, "bad-frame"),
    "an unknown mode": (lambda c: {"mode": "force"}, "bad-frame"),
    "a lower case op id": (lambda c: {"op_id": c["op_id"].lower()}, "bad-frame"),
    "a path as an op id": (lambda c: {"op_id": "../../../../../etc/cron.d/x"}, "bad-frame"),
    "an op id with a newline": (lambda c: {"op_id": c["op_id"] + "\n"}, "bad-frame"),
    "too long a confirm_s": (lambda c: {"confirm_s": 3601}, "bad-frame"),
    "a negative limit": (lambda c: {"limits": {"timeout_s": -1}}, "bad-frame"),
    "an unknown limit": (lambda c: {"limits": {"user": 0}}, "bad-frame"),
    "true as a number": (lambda c: {"v": True}, "bad-frame"),
    "a table as a parameter": (lambda c: {"params": {"unit": {"a": 1}}}, "bad-frame"),
    "a list of numbers as a parameter": (lambda c: {"params": {"unit": [1]}}, "bad-frame"),
    "null as a parameter": (lambda c: {"params": {"unit": None}}, "bad-frame"),
    "an unknown parameter": (lambda c: {"params": {**CRON, "run": "id"}}, "bad-params"),
    "no parameter": (lambda c: {"params": {}}, "bad-params"),
    "a parameter called __class__": (lambda c: {"params": {**CRON, "__class__": "x"}}, "bad-frame"),
    "a secret that never comes": (lambda c: {"secrets_commit": "00" * 32}, "bad-secrets"),
    "a blob of a negative size": (lambda c: {"blobs": [{"sha256": "00" * 32, "size": -1}]}, "bad-frame"),
    "a path as a blob's hash": (lambda c: {"blobs": [{"sha256": "../../../../etc/cron.d/x", "size": 1}]}, "bad-frame"),
    "a blob for an action that takes none": (lambda c: {"blobs": [{"sha256": "00" * 32, "size": 1}]}, "bad-params"),
    "an actor of 65 characters": (lambda c: {"actor": "x" * 65}, "bad-frame"),
    "a resource with a newline": (lambda c: {"base": {"resource": "a\nb", "from": "", "to": ""}}, "bad-frame"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "code"), DENIED.values(), ids=DENIED)
@attack("another server's command", stopped_by="the server's id in the signed body", case="another server's")
@attack(
    "stale command", stopped_by="the server's own clock: 300 seconds from HELLO, and as long to live", case="expired"
)
@attack(
    "stale command",
    stopped_by="the server's own clock: 300 seconds from HELLO, and as long to live",
    case="issued too early",
)
@attack("path traversal", stopped_by="closed schema: identifiers have a grammar", case="a path as an op id")
@attack("path traversal", stopped_by="closed schema: identifiers have a grammar", case="a path as a blob's hash")
class TestACommandThatIsNotRight:
    def test_is_denied_under_the_servers_signature(
        self, victim: Victim, harmless: None, changed: Any, code: str
    ) -> None:
        with victim.client.session() as session:
            right = session.command("service.restart", CRON)
            session.send_command({**right, **changed(right)})
            assert session.echoed(session.answer()).verdict == code
        assert not victim.burned(right["op_id"])


@attack("skewed clock (works)", stopped_by="only the server's clock counts")
def test_clocks_that_are_off_do_not_matter(victim: Victim) -> None:
    """Within a command only the server's own clock counts, and an op id's time is nobody's business."""
    for op, shift in ("0" + "0" * 25, -299_000), ("7" + "Z" * 25, 299_000):
        with victim.client.session() as session:
            issued = session.hello["clock"] + shift
            expires = issued + 300_000
            assert (
                session.ask("service.restart", CRON, op_id=op, issued_at=issued, expires_at=expires).verdict == "done"
            )


@attack("another server's command", stopped_by="the server's id in the signed body")
def test_a_command_for_a_neighbour_does_nothing_here(victim: Victim, fleet: Fleet) -> None:
    """Same fleet, same key, granted on both."""
    other = fleet.start_fresh("debian12")
    try:
        neighbour = enrol(victim.operator, "neighbour", other)
        with victim.untouched(), neighbour.untouched(), neighbour.client.session() as session:
            body = session.command("service.restart", CRON, server_id=victim.client.server_id)
            session.send_command(body)
            assert session.answer().verdict == "wrong-server"
            with victim.client.session() as wrong:
                wrong.send_command({**session.command("service.restart", CRON), "challenge": wrong.hello["challenge"]})
                assert wrong.answer().verdict == "wrong-server"
    finally:
        fleet.remove(other)


# --- JSON that readers disagree about --------------------------------------------------------------------------------


def _instead(old: str, new: str) -> Callable[[str], bytes]:
    return lambda text: text.replace(old, new, 1).encode("utf-8", "surrogatepass")


MALFORMED: dict[str, Callable[[str], bytes]] = {
    "nothing": lambda text: b"",
    "no object": lambda text: b"[" + text.encode() + b"]",
    "something after the object": lambda text: text.encode() + b"{}",
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "bytes that are no UTF-8": lambda text: text.encode().replace(b"a test", b"\xff\xfe"),
    "overlong UTF-8": lambda text: text.encode().replace(b"a test", b"\xc0\xaf"),
    "a lone surrogate": _instead("a test", "\\ud800"),
    "a key twice": _instead('"v":1', '"v":1,"v":1'),
    "a parameter twice": _instead('"unit":"cron"', '"unit":"ssh","unit":"cron"'),
    "a key twice, once escaped": _instead('"unit":"cron"', '"unit":"ssh","\\u0075nit":"cron"'),
    "a key too many": _instead('"v":1', '"v":1,"sudo":true'),
    "a key missing": _instead('"confirm_s":0,', ""),
    "a float": _instead('"v":1', '"v":1.0'),
    "an exponent": _instead('"confirm_s":0', '"confirm_s":0e0'),
    "NaN": _instead('"confirm_s":0', '"confirm_s":NaN'),
    "Infinity": _instead('"confirm_s":0', '"confirm_s":Infinity'),
    "a number beyond 53 bits": _instead('"confirm_s":0', '"confirm_s":9007199254740993'),
    "a number of 10,000 digits": _instead('"confirm_s":0', '"confirm_s":' + "9" * 10_000),
    "9 levels": _instead('"limits":{}', '"limits":' + '{"a":' * 9 + "1" + "}" * 9),
    "10,000 levels": _instead('"limits":{}', '"limits":' + "[" * 10_000 + "]" * 10_000),
    "a comment": _instead('"v":1', '/* */"v":1'),
    "single quotes": lambda text: text.replace('"', "'").encode(),
    "a body of 64 KiB and a byte": lambda text: text.encode() + b" " * (64 * 1024 + 1 - len(text.encode())),
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
@attack("JSON that readers disagree about", stopped_by="strict JSON: nothing twice, no floats, a closed schema")
class TestABodyThatReadersDisagreeAbout:
    def test_is_denied(self, victim: Victim, harmless: None, malformed: Callable[[str], bytes]) -> None:
        with victim.client.session() as session:
            session.send_command(malformed(encode(session.command("service.restart", CRON)).decode()))
            assert session.echoed(session.answer()).verdict == "bad-frame"


# --- nobody that the server knows ------------------------------------------------------------------------------------
#
# One generic word for all of it. A body that is damaged would be "bad-frame" if a parser had seen it: "refused" proves
# that none has.


def _sig(**changes: Any) -> Frame:
    """A right command whose signature has other fields."""

    def frame(session: Session, victim: Victim) -> bytes:
        body = encode(session.command("service.restart", CRON))
        return signed(body, replace(Sig.by(session.client.key, COMMAND, body), **changes).blob())

    return frame


def _signature(change: Callable[[bytes], bytes]) -> Frame:
    """A right command whose 64 bytes were changed."""

    def frame(session: Session, victim: Victim) -> bytes:
        body = encode(session.command("service.restart", CRON))
        sig = Sig.by(session.client.key, COMMAND, body)
        return signed(body, replace(sig, signature=change(sig.signature)).blob())

    return frame


def _namespace(namespace: str, who: str = "command") -> Frame:
    """A command that was signed for something else."""

    def frame(session: Session, victim: Victim) -> bytes:
        body = encode(session.command("service.restart", CRON))
        return signed(body, Key(victim.operator.private / who).sshsig(namespace, body))

    return frame


def _other_body(session: Session, victim: Victim) -> bytes:
    """A signature that fits something harmless."""
    harmless, body = (encode(session.command(*what)) for what in (("system.info",), ("service.restart", CRON)))
    return signed(body, session.client.key.sshsig(COMMAND, harmless))


def _several(count: int) -> Frame:
    def frame(session: Session, victim: Victim) -> bytes:
        body = encode(session.command("service.restart", CRON))
        return signed(body, *[session.client.key.sshsig(COMMAND, body)] * count)

    return frame


def _with_torsion(session: Session, victim: Victim) -> bytes:
    """R with a part of small order: libraries that multiply by the cofactor take it.

    See "Taming the many EdDSAs", 2020.
    """
    body = encode(session.command("service.restart", CRON))
    message, key = to_be_signed(COMMAND, body), session.client.key
    wide = hashlib.sha512(key.seed).digest()
    secret = bytearray(wide[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 127 | 64
    nonce = curve.crypto_core_ed25519_scalar_reduce(hashlib.sha512(wide[32:] + message).digest())
    point = curve.crypto_core_ed25519_add(curve.crypto_scalarmult_ed25519_base_noclamp(nonce), SMALL_ORDER[4])
    h = curve.crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + key.public + message).digest())
    reduced = curve.crypto_core_ed25519_scalar_reduce(bytes(secret) + bytes(32))
    s = curve.crypto_core_ed25519_scalar_add(nonce, curve.crypto_core_ed25519_scalar_mul(h, reduced))
    return signed(body, Sig(key.public, point + s, COMMAND).blob())


def _plus_l(signature: bytes) -> bytes:
    """The same signature to whoever reduces S first."""
    return signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")


REFUSED: dict[str, Frame] = {
    "signed by root": _namespace(COMMAND, "root"),
    "signed by release": _namespace(COMMAND, "release"),
    **{
        f"signed as {space.split('.')[0]}": _namespace(space)
        for space in (TRUST, BUNDLE, RECEIPT, HELLO, PINS, CHECKPOINT)
    },
    "signed as nothing": _namespace(""),
    "signed as git": _namespace("git"),
    "signed as a file": _namespace("file"),
    "signed as another version": _namespace("command.v2@serverflow"),
    "signed as command and more": _namespace(COMMAND + "\0"),
    "signed as bundle by root": _namespace(BUNDLE, "root"),
    "signed as trust by release": _namespace(TRUST, "release"),
    "relabelled as trust": _sig(namespace=TRUST),
    "the signature of another command": _other_body,
    "the same signature twice": _several(2),
    "sixteen signatures": _several(16),
    "seventeen signatures": _several(17),
    "no signature": lambda session, victim: signed(encode(session.command("service.restart", CRON))),
    "S + L": _signature(_plus_l),
    "S of all ones": _signature(lambda raw: raw[:32] + b"\xff" * 32),
    "S = 0": _signature(lambda raw: raw[:32] + bytes(32)),
    "nothing but zeros": _signature(lambda raw: bytes(64)),
    "R of small order": _signature(lambda raw: SMALL_ORDER[1] + raw[32:]),
    "R with a part of small order": _with_torsion,
    "a signature of 63 bytes": _signature(lambda raw: raw[:63]),
    "a signature of 65 bytes": _signature(lambda raw: raw + b"\0"),
    **{
        f"a key of small order, {n}": _sig(public=point, signature=SMALL_ORDER[1] + bytes(32))
        for n, point in SMALL_ORDER.items()
    },
    "another magic": _sig(magic=b"SSHSIH"),
    "version 0": _sig(version=0),
    "version 2": _sig(version=2),
    "an RSA key": _sig(key_type=b"ssh-rsa"),
    "a hardware key": _sig(key_type=b"sk-ssh-ed25519@openssh.com"),
    "an RSA signature": _sig(signature_type=b"rsa-sha2-512"),
    "a key of 31 bytes": lambda session, victim: _sig(public=session.client.key.public[:31])(session, victim),
    "something reserved": _sig(reserved=b"x"),
    "SHA-256": _sig(hash=b"sha256"),
    "no hash": _sig(hash=b""),
    "bytes after the signature": _sig(trailing=b"\0"),
}  # fmt: skip


@pytest.mark.parametrize("frame", REFUSED.values(), ids=REFUSED)
@attack("wrong namespace", stopped_by="the namespace is part of what is signed", case="signed as git")
@attack(
    "a command signature used as trust or bundle",
    stopped_by="the namespace is part of what is signed",
    case="relabelled as trust",
)
@attack("S + L", stopped_by="S must be below L", case="S + L")
@attack(
    "small-order key or point",
    stopped_by="small order is refused, and nothing is multiplied by the cofactor",
    case="R with a part of small order",
)
@attack(
    "small-order key or point",
    stopped_by="small order is refused, and nothing is multiplied by the cofactor",
    case="R of small order",
)
@attack("malformed SSHSIG", stopped_by="exact parsing of version, key type, hash and length")
class TestAMessageFromNobodyWeKnow:
    def test_is_refused_with_one_word(self, victim: Victim, harmless: None, frame: Frame) -> None:
        length = victim.chain_length()
        with victim.client.session() as session:
            session.send(framed(frame(session, victim)) + framed(b""))
            assert session.answer().verdict == "refused"
        assert victim.chain_length() == length


@attack("unknown key", stopped_by="only keys of the trust file count; one word for all refusals")
def test_an_unknown_key_is_refused_like_a_known_one_with_a_wrong_signature(victim: Victim, stranger: Key) -> None:
    """Whoever may log in learns nothing of the keys in the trust file."""
    answers = []
    with victim.untouched():
        for key, signer in (stranger, stranger), (victim.client.key, stranger), (stranger, victim.client.key):
            with victim.client.session() as session:
                body = encode(session.command("service.restart", CRON))
                session.send(framed(signed(body, replace(Sig.by(signer, COMMAND, body), public=key.public).blob())))
                answers.append(session.answer().frames)
    assert answers == [[("E", b'{"code":"refused"}')]] * 3


# --- damaged on the way ----------------------------------------------------------------------------------------------


def _fields(frame: bytes) -> dict[str, int]:
    """Where each field of a framed command with one signature starts, and so a byte of each."""
    places = {"the length": 3, "the count": 4, "the signature's length": 6, "the magic": 7, "the version": 16}
    position = 7 + 10
    for name in "key", "namespace", "reserved", "hash", "signature":
        places[f"the length of {name}"] = position + 3
        size = int.from_bytes(frame[position : position + 4], "big")
        if size:
            places |= {f"the start of {name}": position + 4, f"the middle of {name}": position + 4 + size // 2}
            places[f"the end of {name}"] = position + 3 + size
        position += 4 + size
    return {
        **places,
        "the body's start": position,
        "the body's middle": (position + len(frame)) // 2,
        "the body's end": len(frame) - 1,
    }


PLACES = list(_fields(framed(signed(b"{}" * 9, Sig(bytes(32), bytes(64), COMMAND).blob()))))


@pytest.mark.parametrize("place", PLACES)
@attack(
    "tampered command or parameter", stopped_by="the signature is over the exact bytes, verified before they are parsed"
)
class TestAByteThatWasChangedOnTheWay:
    def test_is_noticed_before_any_parser_sees_it(self, victim: Victim, harmless: None, place: str) -> None:
        with victim.client.session() as session:
            body = encode(session.command("service.restart", CRON))
            frame = bytearray(framed(signed(body, session.client.key.sshsig(COMMAND, body))))
            frame[_fields(bytes(frame))[place]] ^= 1
            session.send(bytes(frame) + framed(b""))
            session.close_input()
            assert session.answer().verdict in {"the length": ("refused", "closed")}.get(place, ("refused",))


SHORT = {"nothing": 0, "half a length": 2, "a length": 4, "a count": 5, "half a signature": 90, "half a body": 400}


@pytest.mark.parametrize("size", SHORT.values(), ids=SHORT)
@attack("truncated frame", stopped_by="exact reads: what is not whole is not read")
class TestAFrameThatEndsEarly:
    def test_is_dropped(self, victim: Victim, harmless: None, size: int) -> None:
        with victim.client.session() as session:
            body = encode(session.command("service.restart", CRON))
            session.send(framed(signed(body, session.client.key.sshsig(COMMAND, body)))[:size])
            session.close_input()
            assert session.answer().verdict == "closed"


LENGTHS = {"0": 0, "1 MiB and a byte": 2**20 + 1, "2 GiB": 2**31, "4 GiB": 2**32 - 1}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@attack("oversized input", stopped_by="lengths are checked before anything is read")
class TestALengthThatNoFrameHas:
    def test_is_refused_before_anything_is_read(self, victim: Victim, harmless: None, length: int) -> None:
        with victim.client.session() as session:
            session.send(length.to_bytes(4, "big"))
            assert session.answer(within=5).verdict == "refused"


@attack("slow input", stopped_by="a deadline of 10 seconds")
def test_a_frame_that_comes_slowly_is_not_waited_for(victim: Victim) -> None:
    """One byte, then silence: the server hangs up by its own deadline of 10 s, and no process of it stays."""
    with victim.untouched(), victim.client.session() as slow, victim.client.session() as trickle:
        slow.send(b"\0")
        for _ in range(8):
            trickle.send(b"\0" if not trickle.sent else b"")
        assert slow.answer(within=30).verdict == "refused"
        assert trickle.answer(within=30).verdict == "refused"
    eventually(lambda: "runner" not in victim.target.run("ps", "-eo", "args").stdout, "the runner ends")


@attack("replay", stopped_by="one challenge, one command")
def test_a_second_frame_on_the_same_session_is_not_read(victim: Victim) -> None:
    """One challenge, one command."""
    with victim.untouched(), victim.client.session() as session:
        session.send_command(session.command("system.info"))
        session.send_command(session.command("service.restart", CRON))
        assert session.answer().body["action"] == "system.info"
        assert session.frame() == ("", b"")


# --- the oldest and the newest release --------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["debian11", "debian13"])
@attack("the main ones on Debian 11 and 13", stopped_by="the same code")
def test_other_releases_refuse_the_same(fleet: Fleet, tmp_path: Path, stranger: Key, release: str) -> None:
    with fresh_victim(fleet, tmp_path, release) as victim, victim.untouched():
        with victim.client.session() as session:
            assert session.ask("system.info").verdict == "done"
            record = session.sent
        frames: list[tuple[Callable[[Session], bytes], str]] = [
            (lambda session: record, "wrong-challenge"),
            (lambda session: framed(_with_torsion(session, victim)) + framed(b""), "refused"),
            (lambda session: framed(_signature(_plus_l)(session, victim)) + framed(b""), "refused"),
            (lambda session: framed(_other_body(session, victim)) + framed(b""), "refused"),
            (lambda session: framed(_namespace(TRUST)(session, victim)) + framed(b""), "refused"),
        ]
        for frame, verdict in frames:
            with victim.client.session() as session:
                session.send(frame(session))
                assert session.answer().verdict == verdict
        with victim.client.session() as session:
            session.send_command(session.command("service.restart", CRON), key=stranger)
            assert session.answer().verdict == "refused"
        assert victim.client.ssh("id").returncode != 0
