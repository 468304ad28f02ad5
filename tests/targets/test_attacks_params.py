"""What comes with a command: parameters, secrets and blobs that are hostile."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.spec import BadParams, Param, parse

from . import attacker
from .attack import attack
from .attacker import COMMAND, Session, encode, framed, signed
from .operator import eventually
from .target import Fleet
from .victim import STATE, Victim, fresh_victim

CRON = {"unit": "cron"}


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


@pytest.fixture(scope="module")
def app(victim: Victim) -> str:
    """An app whose data is /srv/shop."""
    assert victim.client.ask("app.create", {"name": "shop"}).verdict == "done"
    return "shop"


# --- parameters ------------------------------------------------------------------------------------------------------

#: Each would run something, name another file or be taken for an option if any of it were ever parsed again. More of
#: them are tried on the grammars themselves: tests/cases/test_grammar.py.
TEXTS = {
    "shell metacharacters": "cron;touch /canary|touch /canary&&touch /canary>/canary",
    "substitutions": "$(touch /canary)`touch /canary`${IFS}~root/*",
    "a newline": "cron\ntouch /canary",
    "a final newline": "cron\n",
    "a leading dash": "-h",
    "an option with a value": "-o=DPkg::Pre-Invoke::=touch /canary",
    "dots in the middle": "a/../../etc/cron",
    "an absolute path": "/etc/cron.d/canary",
    "NUL and an escape": "cron\0\x1b[2J\u202e",
}
CONTENT = b"<h1>hello</h1>"
#: A right value for each grammar, so that a command is right but for the one parameter.
RIGHT: dict[str, Any] = {
    "unit": "cron", "name": "shop", "username": "mallory", "path": "/srv/shop", "relpath": "x", "size": "64MiB",
    "sha256": hashlib.sha256(CONTENT).hexdigest(), "ulid": "0" * 26, "package": "tree", "hostname": "canary",
    "timezone": "Etc/UTC", "fingerprint": "SHA256:" + "A" * 43, "mode": "0640", "integer": 1, "boolean": False,
    "text": "unit cron active", "document": "MaxAuthTries 3\n", "rule": "80/tcp", "port": 8080,
    "sshkey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIh07NHBmm2jNaRAtN9hVWjWMipRJ5mwnHPtmqxMrIYg x",
    "schedule": "15 3 * * *", "action": "service.restart", "label": "ops", "eventrule": "* warning",
    "routehost": "shop.acme.app", "domain": "acme.app", "target": "3000", "location": "/api 3001", "rate": "10/s",
}  # fmt: skip
PLACES = [(name, param) for name in registry.names() for param in registry.load(name).params]
#: Tried on every parameter; of the others, each grammar sees all, one parameter of its own or another.
EVERYWHERE = ("shell metacharacters", "a leading dash", "dots in the middle")


def _texts(param: Param) -> Iterator[tuple[str, str]]:
    alike = [other for _, other in PLACES if other.type == param.type]
    mine = next(place for place, other in enumerate(alike) if other is param)
    elsewhere = [what for what in TEXTS if what not in EVERYWHERE]
    yield from ((what, TEXTS[what]) for what in EVERYWHERE)
    yield from ((what, TEXTS[what]) for number, what in enumerate(elsewhere) if number % len(alike) == mine)


def _accepts(param: Param, value: Any) -> bool:
    """Whether the text is one of this grammar: a remark may have a semicolon in it, and so may a file's name."""
    try:
        parse([param], {param.name: value})
    except BadParams:
        return False
    return True


@pytest.fixture(scope="module", autouse=True)
def no_canary(victim: Victim) -> Iterator[None]:
    """In the end nothing is named canary anywhere but in the app's own data, where a name may be anything."""
    yield
    find = "find / -xdev \\( -path /proc -o -path /srv/shop \\) -prune -o -name 'canary*' -print; hostname"
    assert victim.target.run("sh", "-c", find).stdout.split() == [victim.target.name]


def _canaries(victim: Victim) -> str:
    return victim.canary() + victim.target.run("sh", "-c", "ls -d /canary* /etc/cron.d/canary || true").stdout


@pytest.mark.parametrize(("name", "param"), PLACES, ids=[f"{name} {param.name}" for name, param in PLACES])
@attack(
    "shell metacharacters in each parameter",
    stopped_by="each parameter has a grammar, and no shell is ever started with one",
)
@attack(
    "leading dash in each parameter", stopped_by="each parameter has a grammar, and no shell is ever started with one"
)
@attack("path traversal", stopped_by="each parameter has a grammar, and no shell is ever started with one")
def test_hostile_text_as_any_parameter_of_any_action(victim: Victim, app: str, name: str, param: Param) -> None:
    """Denied by the grammar before an operation is burned; or content for which a semicolon is a semicolon."""
    action = registry.load(name)
    needed = [one for one in action.params if one.required]
    right = {one.name: [RIGHT[one.type]] if one.many else RIGHT[one.type] for one in needed if not one.secret}
    sealed = {one.name: RIGHT[one.type] for one in needed if one.secret and one.name != param.name}
    frame = os.urandom(32) + json.dumps(sealed).encode() if sealed else b""
    commit = hashlib.sha256(frame).hexdigest() if sealed else None
    before, refusal = _canaries(victim), "bad-secrets" if param.secret else "bad-params"
    if param.name == action.schedules:
        refusal = "not-granted"  # nobody is granted what cannot be an action
    for what, text in _texts(param):
        value = [text] if param.many else text
        with victim.client.session() as session:
            blobs = [{"sha256": RIGHT["sha256"], "size": len(CONTENT)}] if action.blobs else []
            mine = {**right, param.name: value}
            body = session.command(name, mine, action_version=action.version, blobs=blobs, secrets_commit=commit)
            session.send_command(body, frame)
            answer = session.echoed(session.answer([CONTENT]))
        if not _accepts(param, value):
            assert (answer.verdict, victim.burned(body["op_id"])) == (refusal, False), what
    assert _canaries(victim) == before
    victim.target.run("find", "/srv/shop", "-mindepth", "1", "-delete")


# --- secrets and blobs -----------------------------------------------------------------------------------------------


@attack("swapped secret or blob", stopped_by="its hash in the signed body")
def test_a_secrets_frame_that_nobody_committed_to_is_denied(victim: Victim) -> None:
    secret_frame = os.urandom(32) + b'{"unit":"cron"}'
    with victim.untouched():
        for commit in None, hashlib.sha256(secret_frame + b"x").hexdigest(), hashlib.sha256(secret_frame).hexdigest():
            with victim.client.session() as session:
                session.send_command(session.command("service.restart", CRON, secrets_commit=commit), secret_frame)
                assert session.answer().verdict == "bad-secrets"


@attack("oversized input", stopped_by="lengths are checked before anything is read")
def test_a_secrets_frame_of_more_than_64_kib_is_not_read(victim: Victim) -> None:
    with victim.untouched(), victim.client.session() as session:
        body = encode(session.command("service.restart", CRON, secrets_commit="00" * 32))
        session.send(framed(signed(body, session.client.key.sshsig(COMMAND, body))) + (65_537).to_bytes(4, "big"))
        assert session.answer().verdict == "bad-secrets"


def _put(session: Session, path: str, content: bytes, sent: list[bytes], **fields: Any) -> attacker.Answer:
    sha256 = hashlib.sha256(content).hexdigest()
    params = {"app": "shop", "path": path, "sha256": sha256}
    session.send_command(
        session.command("file.put", params, **{"blobs": [{"sha256": sha256, "size": len(content)}], **fields})
    )
    return session.echoed(session.answer(sent))


BLOBS = {
    "a changed byte": b"<h1>hellO</h1>",
    "other bytes of the same length": b"x" * len(CONTENT),
    "the start missing": CONTENT[1:] + b"\n",
}


@pytest.mark.parametrize("sent", BLOBS.values(), ids=BLOBS)
@attack("swapped secret or blob", stopped_by="its hash in the signed body")
class TestABlobThatIsNotWhatTheCommandCommittedTo:
    def test_is_denied_and_not_kept(self, victim: Victim, app: str, sent: bytes) -> None:
        with victim.client.session() as session:
            assert _put(session, "index.html", CONTENT, [sent]).verdict == "bad-frame"
        assert victim.target.run("find", "/srv/shop", f"{STATE}/blobs", "-type", "f").stdout == ""


def test_the_right_blob_arrives_and_bytes_after_it_do_not(victim: Victim, app: str) -> None:
    with victim.client.session() as session:
        assert _put(session, "right.html", CONTENT, [CONTENT, b"and more"]).verdict == "done"
    assert victim.target.run("cat", "/srv/shop/right.html").stdout.encode() == CONTENT
    victim.target.run("rm", "/srv/shop/right.html")
    eventually(lambda: victim.target.run("ls", f"{STATE}/blobs").stdout == "", "the blob is gone")


def test_a_blob_that_stays_away_leaves_nothing_behind(victim: Victim, app: str) -> None:
    with victim.client.session() as session:
        session.send_command(
            session.command(
                "file.put", {"app": app, "path": "a", "sha256": "00" * 32}, blobs=[{"sha256": "00" * 32, "size": 9}]
            )
        )
        assert session.frame() == ("G", b"{}")
        session.send(b"half")
    eventually(lambda: victim.target.run("ls", f"{STATE}/blobs").stdout == "", "the blob is gone")
