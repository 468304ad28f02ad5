"""`sf audit` beside a real server: what root does to the server's chain, and what anybody does to the operator's."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serverflow_cli.trust import chain, keys

from . import attacker
from .attacker import Key
from .operator import Operator, eventually
from .target import Fleet
from .victim import STATE, Victim, fresh_victim

CHAIN = f"{STATE}/receipts.chain"
SLOW = """[Service]
Type=oneshot
ExecStart=/bin/sh -c 'touch /run/began; until [ -e /run/go ]; do sleep 0.05; done'
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Six entries or more: the operator's, a second operator's and the operator's again."""
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        found.target.run("tee", "/etc/systemd/system/slow.service", input=SLOW)
        found.target.run("systemctl", "daemon-reload")
        bob = Key.make(tmp_path_factory.mktemp("bob"), "bob")
        found.push_trust(found.command_key(bob, name="bob"))
        for _ in range(2):
            restart(found.operator)
            assert found.client.as_(bob).ask("service.restart", {"unit": "cron"}, prev_receipt="cd" * 32).body
        restart(found.operator)
        yield found


@pytest.fixture
def operator(victim: Victim) -> Iterator[Operator]:
    """Sound before the test; both chains are as they were after it."""
    sound(victim.operator)
    here = victim.operator.state / "receipts.jsonl"
    ours, theirs = here.read_bytes(), read(victim)
    yield victim.operator
    here.write_bytes(ours)
    write(victim, theirs)
    sound(victim.operator)


def restart(operator: Operator) -> None:
    operator.run("service", "restart", "cron", "--on", "victim", "--yes")


def sound(operator: Operator) -> Any:
    said = operator.json("audit", "verify", "--against", "victim")
    assert (said["data"]["chain"], said["servers"][0]["data"]["chain"]) == ("sound", "sound")
    return said


def unsound(operator: Operator) -> str:
    """What `sf` says."""
    done = operator.run("audit", "verify", "--against", "victim", check=False)
    assert done.returncode == 4, done.stdout + done.stderr
    return done.stderr


def read(victim: Victim) -> str:
    return victim.target.run("cat", CHAIN).stdout


def write(victim: Victim, text: str) -> None:
    victim.target.run("sh", "-c", f"cat >{CHAIN}", input=text)


# --- what root does to the server's ----------------------------------------------------------------------------------

MANIPULATIONS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "removed": (lambda x: [*x[:-2], x[-1]], "missing: removed, or out of order"),
    "removed at the start": (lambda x: x[1:], "entry 1 is missing"),
    "altered": (
        lambda x: [*x[:-3], x[-3].replace("service.restart", "service.stop"), *x[-2:]],
        "is not what the server",
    ),
    "swapped": (lambda x: [*x[:-2], x[-1], x[-2]], "out of order, or twice"),
    "doubled": (lambda x: [*x, x[-1]], "out of order, or twice"),
    "truncated": (lambda x: x[:-1], "receipts that we hold are not in its chain"),
    "emptied": (lambda x: [], "receipts that we hold are not in its chain"),
    "garbage": (lambda x: [*x[:-2], "{}\n", x[-1]], "is damaged"),
}


@pytest.mark.parametrize("how", MANIPULATIONS)
def test_what_root_does_to_the_servers_chain(victim: Victim, operator: Operator, how: str) -> None:
    change, told = MANIPULATIONS[how]
    write(victim, "".join(change(read(victim).splitlines(keepends=True))))
    said = unsound(operator)
    assert "sf: error: victim: its chain is not sound" in said
    assert told in said


def test_an_entry_that_root_signs_anew(victim: Victim, operator: Operator) -> None:
    """Whoever has the identity key can sign anything; the hashes go on all the same."""
    body = json.loads(read(victim).splitlines()[-2])["body"].replace("service.restart", "service.stop")
    victim.target.run("tee", "/root/body", input=body)
    signing = ("ssh-keygen", "-q", "-Y", "sign", "-f", f"{STATE}/identity", "-n", "receipt.v1@serverflow", "/root/body")
    victim.target.run(*signing)
    armoured = victim.target.run("cat", "/root/body.sig").stdout.splitlines()
    victim.target.run("rm", "/root/body", "/root/body.sig")
    line = json.dumps({"body": body, "sig": "".join(armoured[1:-1])}, separators=(",", ":"))
    *before, _, last = read(victim).splitlines()
    write(victim, "".join(f"{one}\n" for one in (*before, line, last)))
    assert "does not follow entry" in unsound(operator)


def test_what_was_cut_off_since_the_last_look(victim: Victim, operator: Operator) -> None:
    """Nobody else holds it: a denial of somebody whose client has no chain."""
    kept = read(victim)
    assert victim.client.ask("service.restart", {"unit": "cron"}, action_version=9).verdict == "action-version"
    longer = read(victim)
    assert len(longer) > len(kept)
    sound(operator)
    write(victim, kept)
    assert "it had" in unsound(operator)
    write(victim, longer)
    sound(operator)
    restart(operator)
    (operator.state / "heads.json").unlink()  # the entry goes with the test


# --- what anybody does to the operator's -----------------------------------------------------------------------------


def rebuilt(lines: list[str]) -> list[str]:
    """With all the hashes made anew."""
    out: list[str] = []
    for line in lines:
        prev = hashlib.sha256(out[-1].rstrip("\n").encode()).hexdigest() if out else ""
        out.append(json.dumps({**json.loads(line), "prev": prev}, ensure_ascii=False) + "\n")
    return out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x[:-2], "lines were removed or changed here"),
        (lambda x: [], "lines were removed or changed here"),
        (lambda x: rebuilt([*x[:-3], *x[-2:]]), "lines were removed or changed here"),
        (lambda x: rebuilt([*x[:-2], x[-1], x[-2]]), "lines were removed or changed here"),
        (lambda x: [*x[:-3], *x[-2:]], "our own chain is not sound"),
        (lambda x: [*x[:-2], x[-1], x[-2]], "our own chain is not sound"),
        (lambda x: [*x, x[-1]], "our own chain is not sound"),
        (lambda x: [*x[:-1], x[-1].replace("service.restart", "service.stop")], "our own chain is not sound"),
    ],
    ids=["truncated", "emptied", "removed, rebuilt", "swapped, rebuilt", "removed", "swapped", "doubled", "altered"],
)
def test_what_is_done_to_the_operators_chain(
    operator: Operator, change: Callable[[list[str]], list[str]], told: str
) -> None:
    here = operator.state / "receipts.jsonl"
    here.write_text("".join(change(here.read_text().splitlines(keepends=True))))
    assert told in unsound(operator)


def test_both_are_told(victim: Victim, operator: Operator) -> None:
    """What is wrong with ours hides nothing that is wrong there."""
    here = operator.state / "receipts.jsonl"
    here.write_text("".join(here.read_text().splitlines(keepends=True)[1:]))
    write(victim, "".join(read(victim).splitlines(keepends=True)[:-1]))
    said = unsound(operator)
    assert "our own chain is not sound" in said
    assert "sf: error: victim: its chain is not sound" in said


def test_a_server_that_cannot_be_asked(victim: Victim, operator: Operator) -> None:
    victim.client.close()
    victim.target.run("systemctl", "stop", "ssh.socket", "ssh", check=False)
    try:
        done = operator.run("audit", "verify", "--against", "victim", check=False)
        assert done.returncode == 5, done.stderr
        assert "chain:    sound" in done.stdout
    finally:
        victim.target.run("systemctl", "start", "ssh")


# --- what is no forgery ----------------------------------------------------------------------------------------------


def test_a_client_that_was_killed(victim: Victim) -> None:
    """Its receipt never came: a note, and `sf op status` fetches it."""
    operator = victim.operator
    victim.target.run("rm", "-f", "/run/go", "/run/began")
    process = operator.start("service", "restart", "slow", "--on", "victim", "--yes")
    eventually(lambda: victim.target.run("test", "-e", "/run/began", check=False).returncode == 0, "slow has begun")
    process.kill()
    process.communicate()
    sound(operator)  # nothing is there yet
    before = victim.chain_length()
    victim.target.run("touch", "/run/go")
    eventually(lambda: victim.chain_length() > before, "the receipt is there")
    (note,) = sound(operator)["servers"][0]["notes"]
    assert note.startswith("the receipt of service.restart (entry ")
    command, op_id = note.rpartition("sf ")[2].rsplit(" ", 1)
    operator.run(*command.split(), op_id)
    assert sound(operator)["servers"][0]["notes"] == []


@dataclass(frozen=True)
class Elsewhere(Operator):
    """The same keys on another machine."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "LOGNAME": "elsewhere"}


def test_two_machines_with_the_same_key(victim: Victim, tmp_path: Path) -> None:
    here = victim.operator
    shutil.copytree(here.home / ".local/share", tmp_path / ".local/share")
    there = Elsewhere(tmp_path, here.fleet)
    for operator in (there, here, there, there, here):
        restart(operator)
    for operator in (there, here):  # to either the other one might be a thief
        (note,) = sound(operator)["servers"][0]["notes"]
        assert note.startswith("our key was used as ") and "service.restart (op " in note


PUSH_TWICE = """
import asyncio, sys
from pathlib import Path
from serverflow_cli.config.environment import Settings
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.trust import chain

async def main():
    workspace = Workspace(FleetFolder(Path(sys.argv[1])), Settings())
    body, blobs = chain.read_version(workspace.folder.trust, workspace.trust.version)
    async with workspace.caller() as caller:
        for _ in range(2):
            reply = await caller.push(workspace.link("victim"), body, blobs, (), lambda event: None)
            print(reply.outcome)

asyncio.run(main())
"""


def test_trust_that_was_there_already(fleet: Fleet, tmp_path: Path) -> None:
    """The answer is a reply, which has no place in a chain. Two `sf` at once bring the same versions."""
    with fresh_victim(fleet, tmp_path) as victim:
        operator = victim.operator
        argv = (sys.executable, "-c", PUSH_TWICE, str(operator.fleet))
        done = subprocess.run(argv, env=operator.environment(), capture_output=True, text=True)
        assert done.stdout.split() == ["unchanged", "unchanged"], done.stderr
        sound(operator)

        folder, root = operator.fleet / "trust", keys.load(operator.private / "root")
        for _ in range(3):
            chain.write_version(folder, chain.successor(chain.load_chain(folder, None)), [root])
        both = [operator.start("service", "restart", "cron", "--on", "victim", "--yes") for _ in range(2)]
        for process in both:
            said = process.communicate(timeout=60)
            assert process.returncode == 0, said
        assert victim.trust_version() == chain.load_chain(folder, None).version
        sound(operator)


def test_the_log(victim: Victim) -> None:
    log = victim.operator.json("audit", "log", "--action", "service.*", "--server", "victim", "--actor", "ana")
    row = log["data"]["receipts"][0]
    assert (row["server"], row["action"], row["outcome"]) == ("victim", "service.restart", "done")
    assert row["key"].startswith("SHA256:") and row["says"] and row["versions"]["bundle"] >= 1
    run = victim.operator.run
    assert "service.restart" not in run("audit", "log", "--action", "trust.*").stdout
    assert "no receipts" in run("audit", "log", "--actor", "bob").stderr
    assert "no receipts" in run("audit", "log", "--outcome", "denied").stderr
    assert "service.restart" in run("audit", "log", "--since", "1h", "--limit", "3").stdout
    later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 3600, UTC).isoformat()
    assert "no receipts" in run("audit", "log", "--since", later).stderr
    for wrong in (("--server", "vicitm"), ("--since", "yesterday"), ("--since", "2026-11-01T00:00:00")):
        done = run("audit", "log", *wrong, check=False)
        assert done.returncode == 2, done.stderr


# --- segments --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, "/usr/local/libexec/serverflow/current")
import chain, receipt, segments, store
from session import BLANK
from signing import Identity

def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = sys.argv[1].split(".")
while True:  # until it comes to that step
    about = receipt.context({**BLANK, "action": "safe.rollback"}, b"", "", "", "", {"trust": 0, "bundle": 0})
    setattr({"os": os, "store": store, "segments": segments, "chain": chain}[owner], name, killed)
    chain.append_receipt(Identity(), receipt.build(about, "rolled-back"))
"""


def test_a_chain_in_segments(victim: Victim) -> None:
    """With a limit of a few receipts, killed at every step from one segment to the next; the oldest go."""
    files = victim.bundle_files()
    files["segments.py"] = files["segments.py"].replace(b"SEGMENT_SIZE = 8 << 20", b"SEGMENT_SIZE = 3000")
    assert victim.push_bundle(files).verdict == "done"
    names = f"ls {STATE} | grep -c 'receipts[.][0-9]*[.]chain' || true"

    def closed() -> int:
        return int(victim.target.run("sh", "-c", names).stdout)

    victim.target.run("tee", "/root/killed.py", input=KILLED)
    steps = ("os.rename", "store.sync_folder", "segments._check", "segments.append", "chain._append", "os.unlink")
    for step in steps:
        done = victim.target.run("/usr/bin/python3", "-I", "/root/killed.py", step, check=False)
        assert done.returncode == 137, (step, done.stderr)
        sound(victim.operator)
        restart(victim.operator)
        sound(victim.operator)
    for _ in range(40):
        if victim.target.run("test", "-e", f"{STATE}/receipts.1.chain", check=False).returncode:
            break
        restart(victim.operator)
    assert closed() == 64
    said = sound(victim.operator)["servers"][0]
    assert any("it has dropped its entries up to" in note for note in said["notes"])

    # More than was dropped in time.
    oldest = victim.target.run("sh", "-c", f"ls -v {STATE}/receipts.*.chain | head -1").stdout.strip()
    victim.target.run("mv", oldest, "/root/gone")
    assert "missing: removed, or out of order" in unsound(victim.operator)
    victim.target.run("mv", "/root/gone", oldest)
    sound(victim.operator)


def test_the_same_without_sf(victim: Victim) -> None:
    """docs/protocol.md is exact enough for a second reader."""
    reader = victim.client
    sizes = reader.ask("audit.read").body["data"]
    assert sizes["lines"] and not sizes["more"]
    previous, number, dropped = "", 0, {0: (0, "")}
    for line in sizes["lines"]:
        number += 1
        entry = json.loads(line)
        body = attacker.verified(
            base64.b64decode(entry["sig"]), entry["body"].encode(), attacker.CHECKPOINT, reader.identity
        )
        assert (body["segment"], body["prev_checkpoint"]) == (number, previous)
        previous = hashlib.sha256(line.encode()).hexdigest()
        dropped[number] = (body["last_seq"], body["last_hash"])
    assert sizes["last"] == number + 1
    seq, head = dropped[sizes["first"] - 1]
    for segment in range(sizes["first"], sizes["last"] + 1):
        for line in reader.ask("audit.read", {"segment": segment}).body["data"]["lines"]:
            body = json.loads(json.loads(line)["body"])
            assert (body["seq"], body["prev_receipt"]) == (seq + 1, head)
            seq, head = body["seq"], hashlib.sha256(line.encode()).hexdigest()
        assert segment not in dropped or dropped[segment] == (seq, head)
    with reader.session() as session:
        assert session.hello["last_receipt"] == head
