"""A certificate's turn that fails or is cut off: what it leaves, and what the next one makes of that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import certari
import certinstall
import certrun
import certs
import certturn
import layout

from .cert_ca import DAY, WISH, Ca, new_authority, new_clock, put


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ca:
    return new_authority(tmp_path, monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return new_clock(monkeypatch)


def serial() -> str:
    return certs.state("web1").serial


def test_a_failure_is_forgotten_by_a_certificate_that_is_good(ca: Ca) -> None:
    """Somebody wanted another one before its time, and the authority was down: the next turn finds nothing wrong."""
    certrun.turn("web1")
    ca.says = {"ok": False, "said": "the authority is down"}
    certrun.turn("web1", force=True)
    assert ca.open == {"cert.failed/web1": "error"} and certs.state("web1").failures == 1
    certrun.turn("web1")
    known = certs.state("web1")
    assert ca.open == {} and (known.failures, known.said, known.retry_at) == (0, "", 0)


def test_a_failure_is_not_forgotten_while_it_is_due_or_not_served(ca: Ca, later: Callable[[int], None]) -> None:
    certrun.turn("web1")
    ca.says, ca.served = {"ok": False, "said": "the authority is down"}, "web1.example.net:443: connection refused"
    certrun.turn("web1", force=True)
    certrun.turn("web1")
    assert certs.state("web1").failures == 1, "it is not served"
    ca.served = ""
    later(60 * DAY + 60)
    certrun.turn("web1")
    assert certs.state("web1").failures == 2, "it is due"


def test_a_full_disk_keeps_no_certificate_from_its_turn(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    put(WISH._replace(name="web2"))
    notes: list[str] = []

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.write_file", full)
    monkeypatch.setattr("journal.note", notes.append)
    certturn.main()
    assert ca.open == {"cert.failed/web1": "error", "cert.failed/web2": "error"} and notes
    with pytest.raises(SystemExit):
        certturn.main("web1")


def test_what_is_as_it_was_is_not_written(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    written: list[str] = []
    monkeypatch.setattr("store.write_file", lambda path, *_: written.append(path))
    certrun.turn("web1")
    assert written == []


def test_cut_off_after_it_was_put_in_place(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the authority is asked when to renew it: what is known is the one that is there."""
    certrun.turn("web1")
    first = certs.state("web1").version

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(certari, "ask", cut)
    with pytest.raises(KeyboardInterrupt):
        certrun.turn("web1", force=True)
    known = certs.state("web1")
    assert known.version == certinstall.current("web1") != first and not known.served
    monkeypatch.setattr(certari, "ask", lambda *_: ca.answer)
    certrun.turn("web1")
    assert certs.state("web1").served and len(ca.orders) == 2


def test_cut_off_before_it_is_known_the_last_one_counts(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    first = certinstall.current("web1")
    finish = certinstall.finish

    def cut(*arguments: str) -> None:
        finish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(certinstall, "finish", cut)
    with pytest.raises(KeyboardInterrupt):
        certrun.turn("web1", force=True)
    assert certinstall.current("web1") != first == certs.state("web1").version
    monkeypatch.setattr(certinstall, "finish", finish)
    certrun.turn("web1")
    assert certinstall.current("web1") == first and certs.state("web1").served and len(ca.orders) == 2


def test_revoked_is_the_one_that_is_known(ca: Ca) -> None:
    certrun.turn("web1")
    known = certs.state("web1")
    chain = Path(layout.CERTS, "web1/fullchain.pem").read_text()
    certrun.turn("web1", force=True)
    certs.remember("web1", known)  # cut off before that was written
    certrun.revoke("web1", "keycompromise")
    assert chain.startswith(ca.orders[-1]["certificate"]) and certs.state("web1").revoked


def test_revoked_and_not_remembered(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    notes: list[str] = []

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("journal.note", notes.append)
    with monkeypatch.context() as patch:
        patch.setattr("store.write_file", full)
        with pytest.raises(SystemExit) as ended:
            certturn.revoke("web1", "keycompromise")
        assert ended.value.code == os.EX_IOERR and "was revoked, and that cannot be remembered" in notes[-1]
        ca.says = {"ok": False, "said": "the authority is down"}
        with pytest.raises(SystemExit) as ended:
            certturn.revoke("web1", "keycompromise")
        assert ended.value.code == os.EX_OSERR and "not revoked: the authority is down" in notes[-1]
    assert certs.state("web1").revoked == ""
    ca.says = {}
    before = certs.state("web1").serial
    certturn.revoke("web1", "keycompromise")  # certacme.py: it is done already
    assert certs.state("web1").revoked == "" and certs.state("web1").serial != before


def test_a_clock_that_was_ahead_holds_nothing_up(ca: Ca, later: Callable[[int], None]) -> None:
    certrun.turn("web1")
    later(400 * DAY)
    ca.says = {"ok": False, "said": "its certificate has expired"}
    certrun.turn("web1")
    later(-320 * DAY)
    ca.says = {}
    certrun.turn("web1")
    assert certs.state("web1").failures == 0 and serial() and len(ca.orders) == 3


def test_an_authority_whose_windows_are_always_past_is_not_asked_each_hour(
    ca: Ca, later: Callable[[int], None]
) -> None:
    ca.answer = certari.Answer(window=(1000, 2000))
    for _ in range(6):
        certrun.turn("web1")
        later(3600)
    assert len(ca.orders) == 1
    later(90 * DAY // 12)
    certrun.turn("web1")
    assert len(ca.orders) == 2


def test_a_chain_with_a_certificate_that_is_none_is_not_installed(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    monkeypatch.setattr(ca, "sign", lambda csr, sign=ca.sign: sign(csr) + none)
    certrun.turn("web1")
    assert certinstall.current("web1") == "" and certs.state("web1").said.startswith("openssl x509")
