"""A certificate's turn: what is installed, and what is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import certari
import certcore
import certinstall
import certrun
import certs
import certsandbox
import certturn
import layout
from serverflow_actions.kit.host import HostError

from .cert_ca import DAY, SECRET, WISH, Ca, new_authority, new_clock, put


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ca:
    return new_authority(tmp_path, monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return new_clock(monkeypatch)


def serial() -> str:
    return certs.state("web1").serial


def test_issued_installed_and_quiet_afterwards(ca: Ca) -> None:
    certrun.turn("web1")
    known = certs.state("web1")
    assert known.served and known.failures == 0 and ca.open == {}
    assert known.not_after - known.not_before == 90 * DAY and known.ari_id.count(".") == 1
    folder = Path(layout.CERTS, "web1").resolve()
    assert folder.name == known.version
    assert (folder / "privkey.pem").stat().st_mode & 0o777 == 0o600
    assert (folder / "fullchain.pem").read_text().count("BEGIN CERTIFICATE") == 2
    (order,) = ca.orders
    assert "PRIVATE KEY" not in str(order) and order["bound"] is False
    certrun.turn("web1")
    assert len(ca.orders) == 1
    shown = certcore.described("web1")
    assert (shown["why"], shown["next"]) == ("third", (known.not_after - 30 * DAY) * 1000)
    assert SECRET not in str(shown)


def test_served_is_what_an_endpoint_has_shown(ca: Ca) -> None:
    certrun.turn("web1")
    assert certcore.described("web1")["served"] is True
    put(WISH._replace(verify=()))
    assert certcore.described("web1")["served"] is None and certs.state("web1").served
    put(WISH)
    ca.served = "web1.example.net:443 refuses connections"
    certrun.turn("web1")
    assert certcore.described("web1")["served"] is False
    Path(layout.CERT, "web1.json").unlink()
    assert certcore.described("web1")["served"] is None


def test_each_version_has_a_key_of_its_own(ca: Ca) -> None:
    certrun.turn("web1")
    first = Path(layout.CERTS, "web1/privkey.pem").read_text()
    certrun.turn("web1", force=True)
    assert Path(layout.CERTS, "web1/privkey.pem").read_text() != first and len(ca.orders) == 2


@pytest.mark.parametrize("days", [90, 45, 6])
def test_a_failure_is_told_at_once_and_again_until_it_works(ca: Ca, later: Callable[[int], None], days: int) -> None:
    ca.days = days
    certrun.turn("web1")
    first = serial()
    ca.says = {"ok": False, "said": "no answer"}
    later(days * DAY * 2 // 3 + 60)
    certrun.turn("web1")
    assert ca.open == {"cert.failed/web1": "error"} and serial() == first
    assert "counts until" in ca.told[0][2] and "was not renewed" in ca.told[0][1]
    attempts = len(ca.orders)
    certrun.turn("web1")
    assert len(ca.orders) == attempts, "the pause is kept"
    later(3600)
    certrun.turn("web1")
    assert len(ca.orders) == attempts + 1 and certs.state("web1").failures == 2
    later(days * DAY // 6)
    certrun.turn("web1")
    assert ca.open == {"cert.failed/web1": "error", "cert.expiring/web1": "error"}
    later(days * DAY // 6)
    certrun.turn("web1")
    assert ca.open["cert.expiring/web1"] == "critical"
    ca.says, ca.days = {}, 3 * days  # openssl counts from the real now
    certrun.turn("web1", now=True)
    assert ca.open == {} and serial() != first and certs.state("web1").failures == 0


def test_what_the_authority_asks_for_is_waited_for(ca: Ca, later: Callable[[int], None]) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2 * DAY))
    ca.says = {"ok": False, "said": "rateLimited", "retry_after": until}
    certrun.turn("web1")
    later(2 * DAY - 60)
    certrun.turn("web1")
    assert len(ca.orders) == 1
    later(120)
    certrun.turn("web1")
    assert len(ca.orders) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"own_key": True}, "for another key"), ({"names": ("web1.example.net",)}, r"not for \*\.web1\.example\.net"),
     ({"says": {"ok": True, "chain": "<html>"}}, "no chain of certificates"), ({"says": {"ok": True}}, "no chain"),
     ({"says": {"ok": False}}, "")],
)  # fmt: skip
def test_what_does_not_count_is_not_installed(ca: Ca, wrong: dict[str, Any], words: str) -> None:
    import re

    certrun.turn("web1")
    first = Path(layout.CERTS, "web1").resolve()
    for name, value in wrong.items():
        setattr(ca, name, value)
    certrun.turn("web1", force=True)
    assert Path(layout.CERTS, "web1").resolve() == first
    assert re.search(words, certs.state("web1").said) and ca.open == {"cert.failed/web1": "error"}
    assert len(list(Path(layout.CERT_VERSIONS).iterdir())) == 1, "no key is left of it"


def test_nobody_serves_the_first_one_at_once(ca: Ca, later: Callable[[int], None]) -> None:
    ca.served = "web1.example.net:443 refuses connections"
    certrun.turn("web1")
    assert ca.open == {} and not certs.state("web1").served
    later(3601)
    certrun.turn("web1")
    assert ca.open == {"cert.not_served/web1": "error"}


def test_it_counts_when_it_is_served(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    ca.orders.clear()
    ca.served = "web1.example.net:443 serves another certificate"
    certrun.turn("web1", force=True)
    assert ca.open == {"cert.not_served/web1": "error"} and not certs.state("web1").served
    certrun.turn("web1")
    assert len(ca.orders) == 1, "another certificate would not help"
    ca.served = ""
    certrun.turn("web1")
    assert ca.open == {} and certs.state("web1").served

    def broken(*_: str) -> None:
        raise HostError("nginx: unknown directive")

    monkeypatch.setattr("validate.before", broken)
    certrun.turn("web1", force=True)
    assert ca.told[-1][0] == "cert.not_served/web1" and "unknown directive" in ca.told[-1][2]


def test_somebody_took_it_away(ca: Ca) -> None:
    certrun.turn("web1")
    version = certinstall.current("web1")
    Path(layout.CERTS, "web1").unlink()
    certrun.turn("web1")
    assert len(ca.orders) == 1 and certinstall.current("web1") == version, "the link is made again"
    Path(layout.CERTS, "web1/fullchain.pem").unlink()
    certrun.turn("web1")
    assert len(ca.orders) == 2 and certinstall.current("web1") not in ("", version)


def test_the_authoritys_window_counts_and_stays_while_it_is_silent(ca: Ca, later: Callable[[int], None]) -> None:
    now = int(time.time())
    ca.answer = certari.Answer((now + 10 * DAY, now + 11 * DAY), 3600, "https://ca.example/why")
    certrun.turn("web1")
    known = certs.state("web1")
    assert ca.asked == 1 and certcore.described("web1")["why"] == "ari"
    assert now + 10 * DAY <= known.picked <= now + 11 * DAY
    certrun.turn("web1")
    assert ca.asked == 1
    ca.answer = certari.Answer(said="no answer: timed out")
    later(3601)
    certrun.turn("web1")
    assert ca.asked == 2 and certs.state("web1").picked == known.picked and len(ca.orders) == 1
    later(11 * DAY)
    certrun.turn("web1")
    assert len(ca.orders) == 2 and certs.state("web1").picked == 0


def test_damaged_settings_are_told_and_stop_no_other(ca: Ca) -> None:
    put(WISH._replace(name="zoo"))
    certrun.turn("web1")
    Path(layout.CERT, "web1.json").write_text("{}")
    certturn.main()
    assert list(ca.open) == ["cert.failed/web1/settings"] and certs.state("zoo").served
    Path(layout.CERT, "web1.json").chmod(0o666)
    assert "nobody else can write" in certcore.described("web1")["problem"]
    put(WISH)
    certturn.main()
    assert ca.open == {}


def test_a_turn_that_breaks_is_told(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(certsandbox, "perform", breaks)
    monkeypatch.setattr("journal.note", lambda _: None)
    with pytest.raises(SystemExit):
        certturn.main("web1")
    assert ca.open == {"cert.failed/web1": "error"} and certs.state("web1").said == "renewing broke off: RuntimeError"


def test_revoked_by_the_account_that_had_it_and_then_replaced(ca: Ca) -> None:
    certrun.turn("web1")
    first = serial()
    put(WISH._replace(directory="https://other.example/dir"))
    certrun.revoke("web1", "superseded")
    assert (ca.orders[-1]["do"], ca.orders[-1]["directory"]) == ("revoke", WISH.directory)
    assert ca.orders[-1]["account"] == ca.orders[0]["account"] and "PRIVATE KEY" not in str(ca.orders[-1])
    with pytest.raises(certrun.NotDone, match=r"already \(superseded\): `sf cert renew web1`"):
        certrun.revoke("web1", "superseded")
    certrun.turn("web1")
    assert serial() != first and certs.state("web1").revoked == ""


def test_revoked_and_replaced_in_one_go(ca: Ca) -> None:
    """Clients refuse it from now on: neither the timer nor a pause after failures is waited for."""
    certrun.turn("web1")
    first = serial()
    certs.remember("web1", certs.state("web1")._replace(failures=3, attempted_at=int(time.time()), retry_at=1 << 40))
    certturn.revoke("web1", "superseded")
    assert [order["do"] for order in ca.orders] == ["issue", "revoke", "issue"]
    assert serial() != first and certs.state("web1").served and ca.open == {}


def test_nobody_waits_for_a_rehearsal(ca: Ca, later: Callable[[int], None]) -> None:
    """Who revokes or renews waits for the certificate alone; the timer's turn has it tried."""
    put(WISH._replace(rehearsal="https://staging.example/dir"))
    certturn.main("web1")
    certturn.revoke("web1", "superseded")
    assert [(order["do"], order["directory"]) for order in ca.orders] == [
        (do, WISH.directory) for do in ("issue", "revoke", "issue")
    ]
    certturn.main()
    assert ca.orders[-1]["directory"] == "https://staging.example/dir" and certs.state("web1").rehearsed_at


def test_what_was_revoked_last_is_known_afterwards(ca: Ca) -> None:
    certrun.turn("web1")
    version = certs.state("web1").version
    certturn.revoke("web1", "superseded")
    known = certs.state("web1")
    assert known.last_revoked == version != known.version and not known.revoked


def test_revoked_while_there_is_no_other(ca: Ca) -> None:
    certrun.turn("web1")
    first = serial()
    ca.names = ("another.example.net",)  # what it issues cannot be used
    certturn.revoke("web1", "superseded")
    known = certs.state("web1")
    assert (serial(), known.revoked, known.failures) == (first, "superseded", 1) and known.said
    assert ca.open == {"cert.failed/web1": "error"}


def test_a_rehearsal_leaves_all_as_it_is(ca: Ca, later: Callable[[int], None]) -> None:
    put(WISH._replace(rehearsal="https://staging.example/dir"))
    certrun.turn("web1")
    first = serial()
    assert [order["directory"] for order in ca.orders] == [WISH.directory, "https://staging.example/dir"]
    assert serial() == first and len(list(Path(layout.CERT_VERSIONS).iterdir())) == 1
    ca.says = {"ok": False, "said": "staging is down"}
    later(7 * DAY)
    certrun.turn("web1")
    assert ca.open == {"cert.failed/web1/rehearsal": "warning"} and certs.state("web1").failures == 0
    later(7 * DAY)
    ca.says = {}
    certrun.turn("web1")
    assert ca.open == {} and serial() == first


def test_state_that_is_damaged_is_found_out_anew(ca: Ca) -> None:
    certrun.turn("web1")
    for content in (b"", b"[]", b"\xff", b'{"window": "x", "failures": "1", "not_after": true}'):
        Path(layout.CERT_STATE, "web1.json").write_bytes(content)
        assert certs.state("web1") == certs.State()
