"""The runner with one step of its verification order taken out, and what shows that it is missing.

The steps are those of "What a server checks" in docs/security.md. A mutation is text: `old` must be there exactly once.
A probe says in a word what a server does; the true runner answers `right`, the mutated one `wrong`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .probes import (
    Probe,
    as_receipt,
    blob,
    hostile_unit,
    in_pieces,
    kept,
    less_than_the_floor,
    limit,
    linked,
    nobodys,
    other_unit,
    outside,
    plus_l,
    raw_body,
    restart,
    schedules,
    secrets,
    signature,
    slowly,
    too_long,
    twice,
    two_at_once,
    unconfirmed,
)


@dataclass(frozen=True)
class Mutation:
    """`places` are (file of the bundle, old text, new text): one, or two where a step stands in two files."""

    step: int
    places: tuple[tuple[str, str, str], ...]
    probe: Probe
    right: str
    wrong: str

    def applied(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bundle without the step. Raises AssertionError when a text is not there exactly once."""
        changed = dict(files)
        for path, old, new in self.places:
            text = changed[path].decode()
            assert text.count(old) == 1, f"{path} has {text.count(old)} times: {old}"
            changed[path] = text.replace(old, new).encode()
        return changed


def _taken_out(path: str, condition: str) -> tuple[tuple[str, str, str], ...]:
    """An `if` that never holds."""
    return ((path, f"if {condition}:", "if False:"),)


MUTATIONS: dict[str, Mutation] = {
    "1: the length of a frame": Mutation(
        1, (("channel.py", "verify.check_frame_length(length, limit)", "pass"),), too_long, "refused", "bad-trust"
    ),
    "1: the deadline": Mutation(
        1,
        (("channel.py", "if left <= 0 or not select.select([0], [], [], left)[0]:", "if False:"),),
        slowly, "refused", "done",
    ),
    "1: exact reads": Mutation(1, (("channel.py", "size -= len(data)", "size = 0"),), in_pieces, "done", "refused"),
    "2: the version of SSHSIG": Mutation(
        2,
        (("verify.py", r'if blob[:10] != b"SSHSIG\0\0\0\1":', 'if blob[:6] != b"SSHSIG":'),),
        signature(lambda sig: replace(sig, version=2)), "refused", "done",
    ),
    "2: nothing reserved, and SHA-512": Mutation(
        2,
        _taken_out("verify.py", 'reserved or algorithm != b"sha512"'),
        signature(lambda sig: replace(sig, reserved=b"x")), "refused", "done",
    ),
    "2: no trailing bytes": Mutation(
        2, _taken_out("verify.py", "data"), signature(lambda sig: replace(sig, trailing=b"x")), "refused", "done"
    ),
    "2: the namespace": Mutation(
        2,
        (
            ("runner.py", "if signed.namespace == verify.COMMAND:", "if True:"),
            ("authorise.py", "if signed.namespace != COMMAND or len(signed.signatures) != 1:", "if False:"),
        ),
        as_receipt, "refused", "done",
    ),
    "3: a key of the trust file": Mutation(
        3,
        (("authorise.py", 'raise Refused("a key that the trust file does not have")', "return trust.command[0]"),),
        restart(who="stranger"), "refused", "done",
    ),
    "3: its dates": Mutation(
        3,
        _taken_out("authorise.py", "not key.not_before <= now_ms < key.expires"),
        restart(who="past"), "key-expired", "done",
    ),
    "4: the signature": Mutation(
        4,
        _taken_out("authorise.py", "not signature.signs(body)"),
        signature(lambda sig: replace(sig, signature=bytes(64))), "refused", "done",
    ),
    "4: S below L": Mutation(
        4,
        (("verify.py", "if s >= _L or a is None", "if a is None"),),
        signature(plus_l), "refused", "done",
    ),
    "4: no key of small order": Mutation(
        4,
        (("verify.py", "or base is None or _small_order(a):", "or base is None:"),),
        signature(nobodys), "refused", "done",
    ),
    "5: no key twice": Mutation(
        5,
        _taken_out("strict.py", "len(value) != len(pairs)"),
        raw_body(lambda text: text.replace(b'"unit":"cron"', b'"unit":"ssh","unit":"cron"')), "bad-frame", "done",
    ),
    "5: a closed schema": Mutation(
        5,
        (
            ("messages.py", "if given > known:", "if False:"),
            ("strict.py", "if set(table(value, where)) != set(wanted):", "if set(table(value, where)) < set(wanted):"),
        ),
        restart(lambda body: {"sudo": True}), "bad-frame", "done",
    ),
    "5: no float": Mutation(
        5,
        (("strict.py", 'raise Malformed(f"{written[:20]} is not a whole number")', "return int(float(written))"),),
        raw_body(lambda text: text.replace(b'"confirm_s":0', b'"confirm_s":0.5')), "bad-frame", "done",
    ),
    "6: kind and version": Mutation(
        6, _taken_out("authorise.py", '(command.v, command.typ) != (1, "command")'),
        restart(lambda body: {"typ": "trust"}), "bad-frame", "done",
    ),
    "6: this server": Mutation(
        6,
        _taken_out("authorise.py", "command.server_id != server_id"),
        restart(lambda body: {"server_id": "ab" * 32}), "wrong-server", "not-granted",
    ),
    "6: this connection's challenge": Mutation(
        6,
        _taken_out("authorise.py", "command.challenge != challenge"),
        restart(lambda body: {"challenge": "cd" * 32}), "wrong-challenge", "done",
    ),
    "6: the trust version": Mutation(
        6,
        _taken_out("authorise.py", "command.trust_version > trust.version"),
        restart(lambda body: {"trust_version": body["trust_version"] + 1}), "trust-ahead", "done",
    ),
    "7: when it was issued": Mutation(
        7,
        _taken_out("authorise.py", "abs(command.issued_at - hello_clock_ms) > LIFETIME_MS"),
        restart(lambda body: {key: body[key] + 300_001 for key in ("issued_at", "expires_at")}), "stale", "done",
    ),
    "7: how long it lives": Mutation(
        7,
        _taken_out("authorise.py", "not 0 < command.expires_at - command.issued_at <= LIFETIME_MS"),
        restart(lambda body: {"expires_at": body["issued_at"] + 300_001}), "stale", "done",
    ),
    "7: whether it has expired": Mutation(
        7,
        _taken_out("authorise.py", "hello_clock_ms + elapsed_ms > command.expires_at"),
        restart(lambda body: {"issued_at": body["issued_at"] - 60_000, "expires_at": body["issued_at"] - 1}),
        "stale", "done",
    ),
    "8: the grant": Mutation(
        8,
        _taken_out("authorise.py", "not granted(key, command.action, command.params, server_id)"),
        other_unit, "not-granted", "done",
    ),
    "8: the grant for what it schedules": Mutation(
        8,
        _taken_out(
            "authorise.py",
            "parameter and not granted(key, str(command.params.get(parameter)), _scheduled(command), server_id)",
        ),
        schedules, "not-granted", "done",
    ),
    "9: the version of the action": Mutation(
        9,
        _taken_out("authorise.py", 'entry["version"] != command.action_version'),
        restart(lambda body: {"action_version": 2}), "action-version", "done",
    ),
    "9: the grammar of the parameters": Mutation(
        9,
        (("request.py", 'raise Denied("bad-params", str(error)) from None', "return {}"),),
        hostile_unit, "not burned", "burned",
    ),
    "9: paths inside the app's data": Mutation(
        9,
        _taken_out(
            "serverflow_actions/file/_shared.py",
            'not any(absolute == folder or absolute.startswith(f"{folder}/") for folder in record.data)',
        ),
        outside, "action-failed", "done",
    ),
    "9: secrets are those committed to": Mutation(
        9,
        _taken_out("authorise.py", "hashlib.sha256(secret_frame).hexdigest() != command.secrets_commit"),
        secrets, "bad-secrets", "done",
    ),
    "9: blobs are those committed to": Mutation(
        9, _taken_out("blobs.py", "digest.hexdigest() != blob.sha256"), blob, "not burned", "burned"
    ),
    "10: the lock": Mutation(10, _taken_out("changes.py", 'entry["locks"]'), two_at_once, "locked", "done"),
    "10: the burned operation": Mutation(
        10,
        (
            ("changes.py", "if store.burned(command.op_id):", "if False:"),
            (
                "store.py",
                "        os.mkdir(folder, 0o700)\n",
                '        __import__("shutil").rmtree(folder, ignore_errors=True)\n        os.mkdir(folder, 0o700)\n',
            ),
        ),
        twice, "once", "twice",
    ),
    "11: the snapshot": Mutation(
        11,
        (
            (
                "arming.py",
                "for entry in _entries(op_id, footprint)",
                "for entry in ()",
            ),
        ),
        unconfirmed, "precious", "changed",
    ),
    "11: the timer": Mutation(
        11,
        (
            (
                "arming.py",
                "_start_timer(op_id, seconds)",
                "pass",
            ),
        ),
        unconfirmed, "precious", "changed",
    ),
    "12: the floor": Mutation(12, _taken_out("run.py", "gap"), less_than_the_floor, "sandbox-floor", "done"),
    "12: the limit of time": Mutation(
        12,
        (("request.py", 'min(timeout, asked.get("timeout_s", timeout))', 'asked.get("timeout_s", timeout)'),),
        limit("timeout_s", 3000, "RuntimeMaxUSec"), "2min 10s", "50min 10s",
    ),
    "12: the limit of memory": Mutation(
        12,
        (("request.py", 'min(memory, asked.get("memory", memory))', 'asked.get("memory", memory)'),),
        limit("memory", 1 << 30, "MemoryMax"), str(256 << 20), str(1 << 30),
    ),
    "13: the receipt in the chain": Mutation(
        13, (("chain.py", "    segments.append(layout.CHAIN, line)", "    pass"),), kept, "1 more", "0 more"
    ),
    "13: the receipt before it": Mutation(
        13,
        (("chain.py", "prev_receipt=previous", 'prev_receipt=""'),),
        linked, "linked", "not linked",
    ),
}  # fmt: skip
