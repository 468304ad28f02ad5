"""One run from job to receipt (remote/executor.py), with a worker that says what each test has it say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import armed
import chain
import executor
import history
import layout
import operation
import receipt
import safe
import signing
import store
import validate
import written
from broker import Broker
from safely import Safely
from serverflow_actions.kit.host import HostError

OP = "01J0000000000000000000000A"
#: Starts no timer. As a worker it writes each frame of `says`, and into `heard` what it is answered; what is no frame
#: are a file's path and its new text.
SYSTEMD_RUN = """#!{python}
import json, os, sys
if any(word.startswith("--on-active") for word in sys.argv):
    sys.exit()
for line in open("{folder}/says"):
    said = json.loads(line)
    if type(said) is list:
        with open(said[0], "w") as file:
            file.write(said[1])
        continue
    print(line, end="", flush=True)
    if said["t"] in ("ready", "ask"):
        with open("{folder}/heard", "a") as file:
            file.write(sys.stdin.readline())
"""
IN_FORCE = {"uid": 990, "no_new_privs": True, "seccomp": True, "cap_bnd": "0", "open": [], "writable": []}
READY = {"t": "ready", "effective": IN_FORCE, "cgroup": ""}
DONE = {"t": "end", "code": "", "message": "", "changes": [], "data": {}, "secrets": {}, "plan_sha256": ""}
FAILED = {**DONE, "code": "action-failed", "message": "it does not start"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's folders somewhere else, and a file of the old content."""
    for name in ("OPS", "SAFE", "RUN", "etc", "bin"):
        (tmp_path / name).mkdir()
    for name in ("OPS", "SAFE", "RUN", "CHAIN", "BALLAST", "BOOT", "WRITTEN", "KEPT", "APPLIED", "IDENTITY_SWITCH"):
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    (tmp_path / "key").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key/key"], check=True)
    monkeypatch.setattr(signing.Identity.__init__, "__defaults__", (str(tmp_path / "key/key"),))
    monkeypatch.setattr(layout, "ENVIRONMENT", {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    put_program(tmp_path / "bin/systemd-run", SYSTEMD_RUN.format(python=sys.executable, folder=tmp_path))
    put_program(tmp_path / "bin/systemctl", "#!/bin/sh\n")
    for name in ("BOOT_UNIT", "BOOT_LINK", "BOOT_LINK_ONCE"):
        monkeypatch.setattr(layout, name, str(tmp_path / name))
    (tmp_path / "etc/file").write_text("old")
    return tmp_path


def put_program(path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)


def a_job(server: Path, confirm_s: int = 60) -> dict[str, Any]:
    manifest = {
        "kind": "change", "profile": "cfg", "timeout": 60, "writes": [f"{server}/etc"], "units": ["probe.service"],
        "packages": ["*"], "accounts": True, "host_verbs": ["hostname"], "run_as": "", "schedules": "",
    }  # fmt: skip
    return {
        "about": about(), "action": "probe.set", "module": "probe", "params": {}, "plan_sha256": None, "key": "00",
        "confirm_s": confirm_s, "written": {}, "manifest": manifest, "timeout": 60, "memory": 1 << 28, "blobs": "",
        "user": "", "secrets": "", "base": None,
    }  # fmt: skip


def about(op_id: str = OP, action: str = "probe.set") -> dict[str, Any]:
    told = {"op_id": op_id, "action": action, "action_version": 1, "mode": "run", "actor": ""}
    told.update(challenge="", server_id="", prev_receipt="")
    return receipt.context(told, b"", "", "", "", {"trust": 1, "bundle": 1})


def arm(server: Path) -> dict[str, Any]:
    footprint = {"paths": [f"{server}/etc/file"], "trees": [], "aside": [], "units": [], "accounts": False, "after": []}
    return {"t": "ask", "verb": "arm", "arguments": footprint}


def changed(server: Path, name: str = "file", **more: str) -> dict[str, Any]:
    return {"t": "change", "change": {"verb": "update", "kind": "file", "name": f"{server}/etc/{name}", **more}}


def ended(server: Path, *says: Any, confirm_s: int = 60) -> dict[str, Any]:
    """The receipt of a run whose worker says this."""
    folder = Path(store.op_folder(OP))
    folder.mkdir()
    (folder / "job").write_text(json.dumps(a_job(server, confirm_s)))
    (server / "says").write_text("".join(f"{json.dumps(said)}\n" for said in (READY, *says)))
    executor.main(OP)
    frame = (folder / "receipt").read_bytes()
    return dict(json.loads(frame[3 + int.from_bytes(frame[1:3], "big") :]))


def new(server: Path, name: str = "file", text: str = "new") -> list[str]:
    return [f"{server}/etc/{name}", text]


# --- armed before anything is done -----------------------------------------------------------------------------------


def test_what_a_safe_change_does_and_waits_for(server: Path) -> None:
    body = ended(server, arm(server), new(server), changed(server), DONE)
    assert (body["outcome"], body["safe"]["op_id"], armed.pending()) == ("pending-confirm", OP, OP)
    assert written.known() == {}


def test_without_anything_to_change_nothing_is_armed(server: Path) -> None:
    body = ended(server, DONE)
    assert (body["outcome"], body["safe"], armed.pending()) == ("unchanged", None, "")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("unit", {"action": "reload", "unit": "probe.service"}),
        ("package", {"action": "hold", "names": []}),
        ("account", {"action": "user-watch", "name": "bob"}),
        ("machine", {"action": "hostname", "value": "not a name"}),
        ("put-aside", {"path": "/etc/x"}),
        ("keep-aside", {"path": "/etc/x"}),
    ],
)
def test_nothing_is_asked_of_the_broker_before(server: Path, verb: str, arguments: dict[str, Any]) -> None:
    """Each would be refused for another reason too, once that is past."""
    for confirm_s in (60, 0):
        job = a_job(server, confirm_s)
        safely = Safely(job, [])
        broker = Broker(job["manifest"], {}, "probe-run", "probe-op", lambda: "", lambda _: None, safely)
        with pytest.raises(HostError) as refused:
            broker.serve(verb, dict(arguments))
        assert ("armed before" in str(refused.value)) == bool(confirm_s)


def test_a_change_that_was_not_armed_does_not_pass_for_a_safe_one(server: Path) -> None:
    body = ended(server, new(server), changed(server), DONE)
    assert (body["outcome"], body["code"]) == ("failed", "action-failed")
    assert "before it was armed" in body["message"]


@pytest.mark.parametrize("code", ["rolled-back", "indeterminate"])
def test_whether_all_is_back_is_not_the_workers_to_say(server: Path, code: str) -> None:
    assert ended(server, {**DONE, "code": code}, confirm_s=0)["outcome"] == "failed"


# --- what fails ------------------------------------------------------------------------------------------------------


def test_what_fails_goes_back(server: Path) -> None:
    body = ended(server, arm(server), new(server), changed(server), FAILED)
    assert (body["outcome"], body["code"], armed.pending()) == ("rolled-back", "rolled-back", "")
    assert body["message"] == "it does not start (all was put back)"
    assert (server / "etc/file").read_text() == "old"


def test_what_cannot_go_back_still_gets_its_receipt_and_says_so(server: Path) -> None:
    """Whatever the rollback raises; and it is tried once."""
    body = ended(server, arm(server), new(server), [f"{armed.folder(OP)}/manifest", "{"], FAILED)
    assert (body["outcome"], body["code"], armed.pending()) == ("indeterminate", "indeterminate", OP)
    assert body["message"].startswith("it does not start (it goes back at the deadline: ")
    assert body["message"].count("deadline") == 1


def test_what_stays_was_not_written_by_hand(server: Path) -> None:
    """The file is there, whatever came after it."""
    body = ended(server, new(server), changed(server), FAILED, confirm_s=0)
    assert body["outcome"] == "failed"
    assert list(written.known()) == [f"{server}/etc/file"]


def test_nor_was_what_is_not_in_order(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(validate._WHOLE, f"{server}/etc/*", ("/bin/false",))
    body = ended(server, new(server), changed(server), DONE, confirm_s=0)
    assert body["outcome"] == "failed" and "is not in order" in body["message"]
    assert list(written.known()) == [f"{server}/etc/file"]


def test_what_a_receipt_has_no_room_for_is_remembered_all_the_same(server: Path) -> None:
    long = [changed(server, note="x" * 60_000)] * 3
    body = ended(server, *long, new(server, "last"), changed(server, "last"), DONE, confirm_s=0)
    assert body["changes"][-1]["name"] == "2 more changes do not fit in here"
    assert f"{server}/etc/last" in written.known()


# --- what ends without a receipt -------------------------------------------------------------------------------------


def cut_off(server: Path) -> None:
    """A safe change whose executor is gone."""
    path = f"{server}/etc/file"
    safe.begin(OP, "probe.set", 60, {"paths": [path], "after": []}, run=True)
    Path(path).write_text("new")


def broken_off() -> tuple[str, str]:
    body = operation.broken_off(about(), OP)
    assert body["outcome"] == body["code"]
    return body["outcome"], body["message"]


@pytest.mark.parametrize("problems", [[], ["/etc/x: Permission denied"]])
def test_what_went_back_says_what_the_rollback_said(server: Path, problems: list[str]) -> None:
    cut_off(server)

    def record(_: list[str]) -> None:
        body = receipt.build(
            about("", "safe.rollback"), "rolled-back", trigger=OP, data={"op": OP, "problems": problems}
        )
        chain.append_receipt(signing.Identity(), body)

    safe.rollback(OP, record)
    outcome, message = broken_off()
    assert outcome == "rolled-back"
    assert ("all was put back" in message) == (not problems) and all(problem in message for problem in problems)
    told = operation.broken_off(about(), OP)
    assert told["data"] == {"problems": problems}
    chain.append_receipt(signing.Identity(), told)
    found = history.change(OP)
    assert found and found["problems"] == problems


def test_what_is_still_going_back_is_not_said_to_be_back(server: Path) -> None:
    cut_off(server)
    os.unlink(f"{armed.folder(OP)}/journal")
    with pytest.raises(OSError, match="journal"):
        safe.rollback(OP)
    outcome, message = broken_off()
    assert outcome == "indeterminate" and "it is going back" in message
    assert (server / "etc/file").read_text() == "new"


def test_what_nobody_has_decided_goes_back_by_itself(server: Path) -> None:
    cut_off(server)
    outcome, message = broken_off()
    assert outcome == "indeterminate" and "goes back by itself" in message


def test_what_undid_itself_and_left_no_receipt(server: Path) -> None:
    cut_off(server)
    safe.rollback(OP, own=True)
    outcome, message = broken_off()
    assert outcome == "rolled-back" and "nobody is left to say" in message
