"""For the tests of certificates: an authority of openssl's in the place of certbot, and alerts that are counted."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import alerts
import certari
import certsandbox
import certserved
import layout
from serverflow_actions.kit.certificate import Credential, Wish

DAY = 86_400
WISH = Wish(
    "web1", ("web1.example.net", "*.web1.example.net"), "https://ca.example/dir", zone="acme.example.net",
    servers=("192.0.2.1:53",), key="web1", reload=("nginx.service",), verify=("web1.example.net:443",),
)  # fmt: skip
SECRET = "c2VjcmV0LXRzaWcta2V5LTAxMjM0NTY3ODk="


@dataclass
class Ca:
    """What it does next, and what came of it all."""

    folder: Path
    days: int = 90
    names: tuple[str, ...] = WISH.names
    own_key: bool = False
    says: dict[str, Any] = field(default_factory=dict)
    orders: list[Mapping[str, Any]] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    answer: certari.Answer = field(
        default_factory=lambda: certari.Answer(said="the authority does not offer it", offered=False)
    )
    served: str = ""

    def perform(self, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
        self.orders.append(order)
        if self.says or order["do"] == "revoke":
            return self.says or {"ok": True}
        return {"ok": True, "chain": self.sign(order["csr"])}

    def sign(self, csr: str) -> str:
        (self.folder / "csr").write_text(csr)
        names = ",".join(f"DNS:{name}" for name in self.names)
        (self.folder / "ext").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        files = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "ext", "-days", str(self.days)]
        forced = ["-force_pubkey", "ca.pub"] if self.own_key else []
        return self.openssl("x509", "-req", "-in", "csr", *files, *forced) + (self.folder / "ca.crt").read_text()

    def units(self) -> list[str]:
        """What units were told, since this was last asked."""
        log = self.folder / "systemctl"
        said = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.replace("--quiet ", "").replace("-- ", "") for line in said if "is-active" not in line]

    def openssl(self, *words: str) -> str:
        return subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def emit(
        self,
        kind: str,
        key: str,
        title: str,
        text: str = "",
        data: Any = None,
        state: str = "open",
        severity: Any = None,
    ) -> None:
        assert SECRET not in f"{title}{text}{data}"
        if state == "open":
            self.open[key] = severity or "error"
            self.told.append((key, title, text))
        else:
            self.open.pop(key, None)

    def wrong(self, endpoints: Any, fingerprint: str, wait_s: int) -> str:
        return self.served


def new_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ca:
    """One that issues WISH, on a server where systemd does what it is told."""
    for name in ("CERT", "CERTS", "CERT_STATE", "CERT_RUN", "ACME"):
        monkeypatch.setattr(layout, name, str(tmp_path / name.lower()))
    monkeypatch.setattr(layout, "CERT_VERSIONS", str(tmp_path / "certs/.versions"))
    (tmp_path / "cert").mkdir()
    found = Ca(tmp_path)
    made = ["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "9"]
    found.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *made)
    (tmp_path / "ca.pub").write_text(found.openssl("pkey", "-in", "ca.key", "-pubout"))
    monkeypatch.setattr(certsandbox, "perform", found.perform)
    monkeypatch.setattr(certserved, "wrong", found.wrong)
    monkeypatch.setattr(alerts, "emit", found.emit)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/systemctl\n')
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setattr(layout, "ENVIRONMENT", {**layout.ENVIRONMENT, "PATH": f"{programs}:/usr/bin:/bin"})
    monkeypatch.setattr("validate.before", lambda *_: None)

    def ask(*_: Any) -> certari.Answer:
        found.asked += 1
        return found.answer

    monkeypatch.setattr(certari, "ask", ask)
    put(WISH)
    return found


def put(wish: Wish) -> None:
    for path, text in ((f"{wish.name}.json", wish.as_json()), (f"{wish.name}.secret", Credential(SECRET).as_json())):
        Path(layout.CERT, path).write_text(text)
        Path(layout.CERT, path).chmod(0o600)


def new_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets time go on."""
    began, gone = time.time(), [0]
    monkeypatch.setattr(time, "time", lambda: began + gone[0])

    def on(seconds: int) -> None:
        gone[0] += seconds

    return on
