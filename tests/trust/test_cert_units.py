"""What an action may ask for about certificates, and the units that the executor writes for it."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import certinstall
import certs
import certsandbox
import certturn
import certunit
import layout
import leave
import machine
import run
from broker import Broker
from safely import Safely
from serverflow_actions.cert.issue import issue as cert_issue
from serverflow_actions.cert.renew import renew as cert_renew
from serverflow_actions.cert.revoke import revoke as cert_revoke
from serverflow_actions.kit import certunits
from serverflow_actions.kit.host import HostError
from serverflow_actions.kit.spec import Action

from .cert_ca import WISH, put


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CERT", "CERTS", "CERT_STATE", "CERT_RUN", "ACME"):
        monkeypatch.setattr(layout, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(layout, "CERT_VERSIONS", str(tmp_path / "certs/.versions"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemd-run").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/argv\nexit $(cat {tmp_path}/exit)\n'
    )
    (programs / "systemd-run").chmod(0o755)
    (tmp_path / "exit").write_text("0")
    monkeypatch.setattr(layout, "ENVIRONMENT", {**layout.ENVIRONMENT, "PATH": f"{programs}:/usr/bin:/bin"})
    return tmp_path


def broker(*powers: str) -> Broker:
    job: dict[str, Any] = {"about": {"op_id": "x"}, "action": "a.b", "key": "", "params": {}, "confirm_s": 0}
    manifest = {"units": [], "packages": [], "host_verbs": list(powers), "accounts": False, "timeout": 9}
    safely = Safely({**job, "manifest": manifest}, [])
    return Broker(manifest, {}, "unit", "executor", lambda: "", lambda _: None, safely)


def test_the_timer_comes_and_goes(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple((str(server / Path(path).name), text) for path, text in certunits.FILES)
    monkeypatch.setattr(certunits, "FILES", files)
    machine.set_cert_unit("present")
    assert [Path(path).read_text() for path, _ in files] == [text for _, text in files]
    machine.set_cert_unit("absent")
    assert not any(Path(path).exists() for path, _ in files)


def test_systemd_understands_the_units(server: Path) -> None:
    for path, text in certunits.FILES:
        (server / Path(path).name).write_text(text.replace("/usr/local/libexec/serverflow/runner", "/bin/true"))
    argv = ["systemd-analyze", "verify", "--man=no", str(server / certunits.TIMER)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no systemd here")
    assert str(server) not in done.stderr, done.stderr


@pytest.mark.parametrize("do", ["issue", "revoke", "forget"])
def test_without_the_power_nothing_is_done(server: Path, do: str) -> None:
    others = [f"cert-{other}" for other in ("issue", "revoke", "forget") if other != do]
    with pytest.raises(HostError, match=f"does not declare cert-{do}"):
        broker(*others, "cert-unit").serve("certificate", {"do": do, "name": "web1"})
    assert not (server / "argv").exists()


@pytest.mark.parametrize(
    "asked",
    [{"do": "issue", "name": "../x", "force": False}, {"do": "issue", "name": "-x", "force": False},
     {"do": "revoke", "name": "web1", "reason": "--key-path=/x"}, {"do": "sing", "name": "web1"},
     {"do": "issue", "name": "web1", "force": False, "more": 1}, {"do": "revoke", "name": "web1"}],
)  # fmt: skip
def test_nothing_else_can_be_asked(server: Path, asked: dict[str, Any]) -> None:
    with pytest.raises((HostError, KeyError)):
        broker("cert-issue", "cert-revoke", "cert-sing").serve("certificate", asked)


def issue(server: Path, after: certs.State, force: bool = False) -> dict[str, Any]:
    """Ask for one, while the turn leaves that state."""

    def turn(*_: Any) -> int:
        certs.remember("web1", after)
        return int((server / "exit").read_text())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certunit, "_unit", turn)
        return certunit.perform("issue", "web1", {"force": force}, lambda: "")


def installed(server: Path) -> None:
    """A certificate, and the wish for it."""
    begun = certinstall.begin("web1")
    Path(certinstall.path(begun, certinstall.KEY)).write_text("key")
    certinstall.finish("web1", begun, "chain")
    (server / "cert").mkdir()
    put(WISH)


def test_an_order_is_a_unit_of_its_own(server: Path) -> None:
    installed(server)
    certs.remember("web1", certs.State(attempted_at=1 << 40))
    told = broker("cert-issue").serve("certificate", {"do": "issue", "name": "web1", "force": True})
    words = (server / "argv").read_text().splitlines()
    assert words[words.index("--") + 1 :] == [layout.RUNNER, "cert-renew", "web1", "force"]
    assert all(f"--property={line}" in words for line in certunits.PROPERTIES)
    assert told["name"] == "web1" and told["failures"] == 0
    (server / "exit").write_text("1")
    certs.remember("web1", certs.State(said="unauthorized"))
    with pytest.raises(HostError, match="not revoked: unauthorized"):
        broker("cert-revoke").serve("certificate", {"do": "revoke", "name": "web1", "reason": "superseded"})


def test_a_run_is_judged_by_what_it_did_itself(server: Path) -> None:
    installed(server)
    now, old = int(time.time()) + 1, certs.State(failures=3, said="it was down", attempted_at=1)
    assert issue(server, old)["failures"] == 3, "nothing was to be done"
    with pytest.raises(HostError, match="nobody tried"):
        issue(server, old, force=True)
    with pytest.raises(HostError, match="certificate web1: it is down"):
        issue(server, certs.State(failures=1, said="it is down", attempted_at=now))
    assert issue(server, certs.State(attempted_at=now), force=True)
    certs.remember("web1", old)
    assert broker("cert-revoke").serve("certificate", {"do": "revoke", "name": "web1", "reason": "superseded"})
    certinstall.purge("web1")
    with pytest.raises(HostError, match="certificate web1: there is none"):
        issue(server, certs.State())


def test_a_turn_sees_what_a_service_sees() -> None:
    """It has nginx check its configuration, whose logs and keys may be in /root, /home, /tmp or below /usr."""
    hiding = ("Protect", "Private", "ReadOnly", "Inaccessible", "TemporaryFileSystem", "RootDirectory")
    assert not [line for line in certunits.PROPERTIES if line.startswith(hiding)]


@pytest.mark.parametrize(
    ("group", "starter"),
    [("0::/system.slice/serverflow-cert.service\n", "serverflow-cert.service"),
     ("1:name=systemd:/docker/f/serverflow-cert-web1-5f.service\n0::/\n", "serverflow-cert-web1-5f.service"),
     ("0::/user.slice/user-0.slice/session-1.scope\n", ""), ("0::/system.slice/ssh.service\n", "")],
)  # fmt: skip
def test_an_order_ends_with_the_unit_that_wants_it(group: str, starter: str) -> None:
    assert certsandbox.bound(group) == ([f"BindsTo={starter}"] if starter else [])


def test_no_order_outlives_us() -> None:
    assert any(fnmatch.fnmatchcase(certsandbox.UNIT, pattern) for pattern in leave._TURNS)


def test_a_run_that_has_to_end_ends_the_unit(server: Path) -> None:
    (server / "bin/systemctl").write_text(f'#!/bin/sh\necho "$@" >> {server}/stopped\n')
    (server / "bin/systemctl").chmod(0o755)
    (server / "bin/systemd-run").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(HostError, match="cancelled"):
        certunit.perform("issue", "web1", {"force": False}, lambda: "cancelled")
    stopped = (server / "stopped").read_text()
    assert "stop -- serverflow-cert-web1-" in stopped
    assert certsandbox.UNIT not in stopped, "it may be another's, for which this one waits"


def test_forgotten_with_and_without_what_was_issued(server: Path) -> None:
    begun = certinstall.begin("web1")
    Path(certinstall.path(begun, certinstall.KEY)).write_text("key")
    certinstall.finish("web1", begun, "chain")
    for name in ("web1", "web2"):
        certs.remember(name, certs.State(made_for="x"))
        (server / "acme" / name).mkdir(parents=True)
    broker("cert-forget").serve("certificate", {"do": "forget", "name": "web1", "purge": False})
    assert certs.state("web1") == certs.State() and certs.state("web2") != certs.State()
    assert [path.name for path in (server / "acme").iterdir()] == ["web2"] and certinstall.current("web1")
    broker("cert-forget").serve("certificate", {"do": "forget", "name": "web1", "purge": True})
    assert [path.name for path in (server / "certs").iterdir()] == [".versions"]


def test_revoked_and_not_replaced_is_said(server: Path) -> None:
    (server / "exit").write_text("0")
    certs.remember("web1", certs.State(revoked="superseded", failures=1, said="it is down"))
    with pytest.raises(HostError, match="it was revoked, and is in use still: there is no other yet: it is down"):
        certunit.perform("revoke", "web1", {"reason": "superseded"}, lambda: "")


#: What a run leaves that revokes the first version, and what is said of it when it does not come to its end.
LEFT = [
    (
        certs.State(version="1", serial="a", revoked="superseded", last_revoked="1", said="of another time"),
        r"it was revoked, and is in use still: there is no other yet: .*; `sf cert renew web1` has one issued",
    ),
    (
        certs.State(version="2", serial="b", last_revoked="1"),
        r"it was revoked and replaced, and then .*; `sf cert issue web1` sees the new one served",
    ),
    (certs.State(version="1", serial="a", said="of another time"), "nobody knows whether it was revoked: do it again"),
    # Renewed by the timer meanwhile.
    (certs.State(version="2", serial="b"), "nobody knows whether it was revoked: do it again"),
]


@pytest.mark.parametrize(("after", "words"), LEFT)
def test_a_revocation_that_broke_off_says_what_is_so(
    server: Path, monkeypatch: pytest.MonkeyPatch, after: certs.State, words: str
) -> None:
    certs.remember("web1", certs.State(version="1", serial="a", said="of another time"))

    def killed(*_: Any) -> int:
        certs.remember("web1", after)
        return 255

    monkeypatch.setattr(certunit, "_unit", killed)
    with pytest.raises(HostError, match=words) as ended:
        certunit.perform("revoke", "web1", {"reason": "superseded"}, lambda: "")
    assert "it broke off (exit code 255)" in str(ended.value) and "of another time" not in str(ended.value)


def cancelled(server: Path, action: Action) -> run.Run:
    """A run whose unit would last, and that somebody has cancelled."""
    (server / "bin/systemd-run").write_text("#!/bin/sh\nexec sleep 60\n")
    (server / "cancel").touch()
    job = {"about": {"op_id": "x"}, "action": action.name, "key": "", "params": {}, "confirm_s": 0, "timeout": 9}
    return run.Run({**job, "manifest": action.manifest("")}, str(server), run.Progress(str(server)))


@pytest.mark.parametrize(("after", "words"), LEFT)
def test_a_revocation_that_was_cancelled_says_what_is_so(server: Path, after: certs.State, words: str) -> None:
    """In the operation's own result, although the action that asked for it is no more."""
    certs.remember("web1", certs.State(version="1", serial="a"))
    (server / "after").write_text(json.dumps(after._asdict()))
    (server / "bin/systemctl").write_text(f"#!/bin/sh\ncp {server}/after {server}/cert_state/web1.json\n")
    (server / "bin/systemctl").chmod(0o755)
    work = cancelled(server, cert_revoke)
    asked = {"do": "revoke", "name": "web1", "reason": "superseded"}
    work._ask({"verb": "certificate", "arguments": asked}, set())
    end = work._without_end()
    assert end["code"] == "killed" and re.search(f"^the action was cancelled; .*: .*{words}", end["message"])


def test_a_cancelled_run_says_no_more_where_there_is_no_more(server: Path) -> None:
    (server / "bin/systemctl").symlink_to("/bin/true")
    work = cancelled(server, cert_issue)
    work._ask({"verb": "certificate", "arguments": {"do": "issue", "name": "web1", "force": False}}, set())
    assert work._without_end()["message"] == "the action was cancelled; all its processes were killed"


def test_whoever_revokes_again_is_told_how_to_replace_it(server: Path) -> None:
    (server / "exit").write_text("1")
    certs.remember("web1", certs.State(revoked="superseded", last_revoked="1", said="it was revoked already (x)"))
    with pytest.raises(HostError, match=r"^it was revoked already"):
        certunit.perform("revoke", "web1", {"reason": "superseded"}, lambda: "")
    (server / "exit").write_text("255")
    with pytest.raises(HostError, match=r"it was revoked, and is in use still: .*; `sf cert renew web1`"):
        certunit.perform("revoke", "web1", {"reason": "superseded"}, lambda: "")


def test_there_is_time_for_all_of_it(server: Path) -> None:
    """The wait for the lock, each order with what ends it, and the action that waits for the unit."""
    order = certsandbox.SECONDS + 60
    asked: list[tuple[Action, dict[str, Any], int]] = [
        (cert_issue, {"force": False}, 1), (cert_renew, {"force": True}, 1),
        (cert_revoke, {"reason": "superseded"}, 2),
    ]  # fmt: skip
    for action, fields, orders in asked:
        with contextlib.suppress(HostError):
            certunit.perform("revoke" if orders == 2 else "issue", "web1", fields, lambda: "")
        words = (server / "argv").read_text()
        seconds = int(re.findall(r"^--property=RuntimeMaxSec=(\d+)$", words, re.M)[0])
        assert certturn._WAIT_S + orders * order < seconds < action.timeout


def test_revoked_and_not_remembered_is_said(server: Path) -> None:
    (server / "exit").write_text(str(os.EX_IOERR))
    certs.remember("web1", certs.State(said="of another time"))
    with pytest.raises(HostError, match="it was revoked, and this server cannot remember that"):
        certunit.perform("revoke", "web1", {"reason": "superseded"}, lambda: "")


@pytest.mark.parametrize(("code", "words"), [("75", "being renewed"), ("137", "it broke off")])
def test_what_nobody_tried_is_no_success(server: Path, code: str, words: str) -> None:
    """It waited too long for its turn, or was killed: the state says nothing of that."""
    (server / "exit").write_text(code)
    with pytest.raises(HostError, match=words):
        certunit.perform("issue", "web1", {"force": False}, lambda: "")
