"""The certificates that this server is to have: their files, and what is remembered of each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from typing import Any, NamedTuple

import layout
import store
from serverflow_actions.kit import grammar
from serverflow_actions.kit.certificate import Credential, Wish, credential_from_json, wish_from_json

_LIMIT = 64 << 10


class Damaged(Exception):
    """A sentence: why a file does not count. It shows no secret."""


class State(NamedTuple):
    """What is known of a certificate. Times are seconds since the epoch, 0 for never.

    made_for      what of the wish it was issued for (`purpose`); "" when there is none
    version       the folder that it is in, below layout.CERT_VERSIONS
    account       the folder of the account that it was issued to, for its revocation
    served        whether each endpoint was seen to serve it
    not_served    why not, "" when all do
    was_served    whether they ever did: nobody serves the first one before it is there
    told_at       when its units were last told to read it
    window        of the authority (certari.Window), or null
    asked_at      when the authority was asked for that, and when it is to be asked again
    picked        the moment in the window
    ari_said      why it has none to say
    failures      attempts that failed since the last that did not; `said` is why the last one did
    retry_at      no attempt is made before that
    revoked       the reason that it was revoked for
    last_revoked  the version that was revoked last, also when another one has taken its place
    rehearsed_at  when the rehearsal was last tried; `rehearsal` is why it failed
    """

    made_for: str = ""
    version: str = ""
    account: str = ""
    serial: str = ""
    issuer: str = ""
    fingerprint: str = ""
    ari_id: str = ""
    not_before: int = 0
    not_after: int = 0
    installed_at: int = 0
    served: bool = False
    not_served: str = ""
    was_served: bool = False
    told_at: int = 0
    window: tuple[int, int] = (0, 0)
    explanation: str = ""
    asked_at: int = 0
    ask_again: int = 0
    picked: int = 0
    ari_said: str = ""
    failures: int = 0
    said: str = ""
    attempted_at: int = 0
    retry_at: int = 0
    revoked: str = ""
    last_revoked: str = ""
    rehearsed_at: int = 0
    rehearsal: str = ""


def purpose(wish: Wish) -> str:
    """What of a wish makes another certificate when it is another."""
    return json.dumps([sorted(wish.names), wish.directory, wish.key_type])


def issued_by(known: State) -> str:
    """URL of the directory; "" where nobody knows."""
    try:
        return str(json.loads(known.made_for)[1])
    except (ValueError, LookupError, TypeError):
        return ""


def names() -> list[str]:
    """Of the wishes that are there, damaged ones too."""
    with contextlib.suppress(FileNotFoundError):
        found = [entry[: -len(".json")] for entry in os.listdir(layout.CERT) if entry.endswith(".json")]
        return sorted(filter(is_name, found))
    return []


def is_name(text: str) -> bool:
    try:
        return bool(grammar.name(text))
    except ValueError:
        return False


def read(name: str) -> Wish:
    """Raises KeyError where there is none, Damaged."""
    content = _content(f"{layout.CERT}/{grammar.name(name)}.json")
    if content is None:
        raise KeyError(name)
    try:
        wish = wish_from_json(content)
    except ValueError as error:
        raise Damaged(f"its file is damaged: {error}") from None
    if wish.name != name:
        raise Damaged("its file is the one of another certificate")
    return wish


def credential(wish: Wish) -> Credential:
    """Raises Damaged."""
    content = _content(f"{layout.CERT}/{wish.name}.secret")
    if content is None:
        raise Damaged("its credential is missing")
    try:
        return credential_from_json(content, wish)
    except ValueError as error:
        raise Damaged(f"its credential is damaged: {error}") from None


def _content(path: str) -> bytes | None:
    """Only a plain file of root's that nobody else can write counts. Raises Damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Damaged(f"its file cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise Damaged("its file is not a plain one of root's that nobody else can write")
        return file.read(_LIMIT)


# --- what is remembered ----------------------------------------------------------------------------------------------


def state(name: str) -> State:
    """What does not fit is forgotten: then it is found out anew."""
    try:
        value: Any = json.loads(store.read_file(f"{layout.CERT_STATE}/{grammar.name(name)}.json") or b"{}")
    except ValueError:
        value = {}
    found: dict[str, Any] = {}
    for field, default in State._field_defaults.items():
        given = value.get(field) if isinstance(value, dict) else None
        if field == "window":
            given = tuple(given) if isinstance(given, list) and [type(each) for each in given] == [int, int] else None
        if type(given) is type(default):
            found[field] = given
    return State(**found)


def remember(name: str, known: State) -> None:
    """Written only where it is news: a full disk is no trouble to a certificate that needs nothing. Raises OSError."""
    if known == state(name):
        return
    os.makedirs(layout.CERT_STATE, mode=0o700, exist_ok=True)
    store.write_file(f"{layout.CERT_STATE}/{grammar.name(name)}.json", json.dumps(known._asdict()).encode())


def forget(name: str) -> None:
    """The state, and the accounts with authorities. What was issued stays."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{layout.CERT_STATE}/{grammar.name(name)}.json")
    shutil.rmtree(f"{layout.ACME}/{name}", ignore_errors=True)
