"""A server for attacks: enrolled by an operator of its own, with a canary that a successful attack would move."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import attacker
from .attacker import Answer, Client, Key
from .operator import Operator, new_operator
from .target import Fleet, Target

STATE = "/var/lib/serverflow"


@dataclass(frozen=True)
class Victim:
    """`client` holds what a thief of the operator's command key would hold."""

    operator: Operator
    target: Target
    client: Client

    @property
    def root(self) -> Key:
        return Key(self.operator.private / "root")

    @property
    def release(self) -> Key:
        return Key(self.operator.private / "release")

    def safely(self, action: str, params: dict[str, Any], ending: str = "safe.confirm") -> str:
        """A safe change, and how it ended: confirmed over a new connection, or undone."""
        answer = self.client.ask(action, params, confirm_s=60)
        if answer.verdict != "pending-confirm":
            return answer.verdict
        with self.client.session(shared=False) as session:
            ended = session.ask(ending, {"op": answer.body["op_id"]})
        return ended.verdict

    # --- the canary ---------------------------------------------------------------------------------------------------

    def canary(self) -> str:
        """cron's process id: an attack that restarts it has worked."""
        return self.target.run("systemctl", "show", "--property=MainPID", "--value", "cron").stdout.strip()

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """The canary is the same after the block, and moves at once for a right command by the same key."""
        before = self.canary()
        yield
        assert self.canary() == before
        answer = self.client.ask("service.restart", {"unit": "cron"})
        assert answer.verdict == "done", answer.body
        assert self.canary() != before

    # --- what the server keeps ----------------------------------------------------------------------------------------

    def chain_length(self) -> int:
        return int(self.target.run("sh", "-c", f"wc -l < {STATE}/receipts.chain").stdout)

    def burned(self, op_id: str) -> bool:
        return self.target.run("test", "-d", f"{STATE}/ops/{op_id}", check=False).returncode == 0

    def trust_version(self) -> int:
        listing = self.target.run("sh", "-c", "ls /etc/serverflow/trust/*.json").stdout.split()
        return max(int(Path(name).stem) for name in listing)

    def trust(self) -> dict[str, Any]:
        return dict(json.loads(self.target.run("cat", f"/etc/serverflow/trust/{self.trust_version()}.json").stdout))

    def bundle_version(self) -> int:
        return int(Path(self.target.run("readlink", "/usr/local/libexec/serverflow/current").stdout.strip()).name)

    # --- what the holder of root and release keys may do
    # -----------------------------------------------------------------

    def next_trust(self, *command_keys: dict[str, Any], **changes: Any) -> bytes:
        """The body of version N + 1, with further command keys."""
        trust = self.trust()
        trust["version"] += 1
        trust["roles"]["command"]["keys"] += command_keys
        return attacker.encode({**trust, **changes})

    def command_key(self, key: Key, **changes: Any) -> dict[str, Any]:
        """A key that may do what the operator may, but for `changes`."""
        mine = self.trust()["roles"]["command"]["keys"][0]
        return {**mine, "name": "ci", "key": key.line, "ssh": [key.line], **changes}

    def push_trust(self, *command_keys: dict[str, Any], **changes: Any) -> None:
        answer = self.client.push(attacker.TRUST, self.next_trust(*command_keys, **changes), self.root)
        assert answer.verdict == "done", answer.body

    def bundle_files(self) -> dict[str, bytes]:
        """What is installed now, by path."""
        packed = self.target.run("sh", "-c", "tar -C /usr/local/libexec/serverflow/current/ -c . | base64").stdout
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
            content = {
                name.removeprefix("./"): tar.extractfile(name)
                for name in tar.getnames()
                if tar.getmember(name).isfile()
            }
            listed = json.load(content["bundle.json"])["files"]  # type: ignore[arg-type]  # a file has one
            return {file["path"]: content[file["path"]].read() for file in listed}  # type: ignore[union-attr]

    def push_bundle(self, files: Mapping[str, bytes], /, *, key: Key | None = None, **changes: Any) -> Answer:
        """A version more, signed by the release key or another; the manifest is true but for `changes`."""
        manifest = {"v": 1, "typ": "bundle", "version": self.bundle_version() + 1, "files": listing(files), **changes}
        content = [files[path] for path in sorted(files)]
        return self.client.push(attacker.BUNDLE, attacker.encode(manifest), key or self.release, content=content)


def listing(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """A manifest's `files`."""
    return [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(files.items())
    ]


def client_of(operator: Operator, name: str, target: Target) -> Client:
    """Drives `target` with the operator's own command key, by the pins of the fleet folder."""
    pin = tomllib.loads((operator.fleet / "pins.toml").read_text())["pins"][name]
    key = Key(operator.private / "command")
    return Client(
        target.host, target.port, target.host_key(), attacker.line_key(pin["identity"]), pin["server_id"], key, key
    )


def enrol(operator: Operator, name: str, target: Target) -> Victim:
    operator.add(name, target)
    # It is restarted more often than systemd lets a unit restart by itself.
    drop_in = "/etc/systemd/system/cron.service.d"
    target.run(
        "sh",
        "-c",
        f"mkdir -p {drop_in}; printf '[Unit]\\nStartLimitIntervalSec=0\\n' > {drop_in}/often.conf; "
        "systemctl daemon-reload",
    )
    return Victim(operator, target, client_of(operator, name, target))


@contextlib.contextmanager
def fresh_victim(fleet: Fleet, folder: Path, release: str = "debian12") -> Iterator[Victim]:
    """A brand-new server in a fleet of its own."""
    target = fleet.start_fresh(release)
    try:
        victim = enrol(new_operator(folder), "victim", target)
        yield victim
        victim.client.close()
    finally:
        fleet.remove(target)
