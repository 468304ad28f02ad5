"""What servers say, read strictly: a server that someone has taken over must not be able to confuse this program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TrustError

_DEPTH = 24
_DIGITS = 18
_LATEST_MS = 253_370_764_800_000  # the year 9999

Check = Callable[[Any], bool]


def parse(text: bytes) -> dict[str, Any]:
    """One JSON object without floats, NaN, doubled keys, huge numbers or deep nesting. Raises ValueError."""
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refused,
            parse_constant=_refused,
            parse_int=_bounded,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict) or _deeper_than(value, _DEPTH):
        raise ValueError("not an object, or nested too deeply")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refused(text: str) -> Any:
    raise ValueError(f"{text[:20]} is not a whole number")


def _bounded(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("a number that is too large")
    return int(digits)


def _deeper_than(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inner)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _first_version(value: Any) -> bool:
    return type(value) is int and value == 1


def _time(value: Any) -> bool:
    return _number(value) and value <= _LATEST_MS


def _one_of(*allowed: str) -> Check:
    return lambda value: value in allowed


def _nullable(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _record(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and set(value) == set(checks) and all(c(value[k]) for k, c in checks.items())
    )


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int))


def _change(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"verb", "kind", "name"} <= set(value) <= {"verb", "kind", "name", "fields", "diff", "note"}
        and all(_text(value[key]) for key in set(value) - {"fields"})
        and _fields(value.get("fields", {}))
    )


def _fields(value: Any) -> bool:
    pairs = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(pair, list) and len(pair) == 2 and all(_plain(item) for item in pair) for pair in pairs)


def _plain(value: Any) -> bool:
    return _scalar(value) or (isinstance(value, list) and all(_scalar(item) for item in value))


def _changes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 10_000 and all(map(_change, value))


_HELLO: Mapping[str, Check] = {
    "v": _first_version, "typ": _one_of("hello"), "nonce": _text, "challenge": _text, "server_id": _text,
    "trust_version": _number, "trust_sha256": _text, "bundle_version": _number, "boot": _text, "clock": _time,
    "last_receipt": _text, "pending": _text,
}  # fmt: skip

_RECEIPT: Mapping[str, Check] = {
    "v": _first_version, "typ": _one_of("receipt", "reply"), "body_sha256": _text, "nonce": _text, "challenge": _text,
    "server_id": _text, "op_id": _text, "action": _text, "action_version": _number, "mode": _text,
    "actor": _record(name=_text, key=_text, says=_text),
    "outcome": _one_of(
        "done", "unchanged", "failed", "denied", "timeout", "out-of-memory", "killed", "indeterminate",
        "pending-confirm", "rolled-back",
    ),
    "code": _text, "message": _text, "exit": _record(code=_nullable(_number), signal=_nullable(_number)),
    "started_at": _time, "finished_at": _time, "boot": _text,
    "output": _record(sha256=_text, length=_number, truncated=lambda value: isinstance(value, bool)),
    "sandbox": _record(profile=_text, effective=_object), "changes": _changes, "data": _object, "plan_sha256": _text,
    "safe": _nullable(_object), "versions": _record(trust=_number, bundle=_number),
    "base": _nullable(_record(resource=_text, hash=_text, by=_text, op_id=_text, at=_time)),
    "trigger": _text, "anchor": _text, "seq": _number, "prev_receipt": _text,
}  # fmt: skip


def hello(body: bytes, server: str) -> dict[str, Any]:
    """A HELLO's body (docs/protocol.md). Raises TrustError."""
    return _checked(body, _HELLO, server)


def receipt(body: bytes, server: str) -> dict[str, Any]:
    """A receipt's or reply's body. Raises TrustError."""
    return _checked(body, _RECEIPT, server)


def changes(value: Any, server: str) -> list[dict[str, Any]]:
    """Changes in the data of an answer, which has any shape as far as its receipt goes. Raises TrustError."""
    if not _changes(value):
        raise _bad(server, "what it says of changes makes no sense")
    return list(value)


def records(value: Any, server: str) -> list[dict[str, Any]]:
    """A list of objects in the data of an answer. Raises TrustError."""
    if not isinstance(value, list) or not all(map(_object, value)):
        raise _bad(server, "it has no list where one should be")
    return value


def _checked(body: bytes, shape: Mapping[str, Check], server: str) -> dict[str, Any]:
    try:
        value = parse(body)
    except ValueError as error:
        raise _bad(server, str(error)) from None
    _check_version(value, shape, server)
    if set(value) != set(shape):
        raise _bad(server, "it has other fields than it should")
    wrong = [key for key, check in shape.items() if not check(value[key])]
    if wrong:
        raise _bad(server, f"what it says of {', '.join(wrong)} makes no sense")
    return value


def _check_version(value: Mapping[str, Any], shape: Mapping[str, Check], server: str) -> None:
    """What a newer server says may mean something else than it seems to: it is refused whole, and we say why."""
    version, more = value.get("v"), sorted(set(value) - set(shape))
    if type(version) is int and version > 1:
        reason = f"the server speaks version {version} of the protocol, this sf version 1"
    elif more and set(shape) <= set(value):
        reason = f"the server's answer says more than this sf understands ({', '.join(more[:5])!a})"
    else:
        return
    raise TrustError(reason, server=server, code="newer-server", hint="update sf")


def _bad(server: str, reason: str) -> TrustError:
    return TrustError(
        f"the server's answer cannot be read: {reason}",
        server=server,
        code="bad-answer",
        hint="is its bundle much older or newer than this sf? sf server update",
    )


def event(payload: bytes) -> dict[str, Any]:
    """A progress frame: unsigned, so nothing but a line of text is taken from it."""
    try:
        value = parse(payload)
    except ValueError:
        return {}
    kind = value.get("t")
    if kind == "note":
        return {"t": "note", "text": str(value.get("text", ""))[:500]}
    return {"t": "step", "doing": str(value.get("doing", ""))[:500]} if kind == "step" else {}


def shown(payload: bytes, server: str) -> dict[str, str]:
    """Values that are shown once: names and texts. Raises TrustError."""
    try:
        value = parse(payload)
    except ValueError as error:
        raise _bad(server, str(error)) from None
    if not all(map(_text, value.values())):
        raise _bad(server, "a value that is shown once is not text")
    return value
