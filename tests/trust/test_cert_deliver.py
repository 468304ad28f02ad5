"""A new certificate and those who serve it: told to read it, not too often, and not what they would refuse."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import certcore
import certdeliver
import certinstall
import certrun
import certs
import layout
import listeners
import validate
from serverflow_actions.kit.certificate import RELOADABLE
from serverflow_actions.kit.host import HostError

from .cert_ca import DAY, WISH, Ca, new_authority, new_clock, put


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ca:
    return new_authority(tmp_path, monkeypatch)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return new_clock(monkeypatch)


def serial() -> str:
    return certs.state("web1").serial


def refusing(monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[], bool]) -> None:
    """nginx -t, which says no where this is so."""

    def before(verb: str, unit: str) -> None:
        if is_refused():
            raise HostError(f"{unit} was not told to {verb}: nginx: key values mismatch")

    monkeypatch.setattr("validate.before", before)


def test_what_a_unit_would_not_start_with_is_taken_back(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    first, known = certinstall.current("web1"), certs.state("web1")
    ca.units()
    refusing(monkeypatch, lambda: certinstall.current("web1") != first)
    certrun.turn("web1", force=True)
    assert certinstall.current("web1") == first and ca.units() == []
    failed = certs.state("web1")
    assert (failed.failures, failed.fingerprint, failed.served) == (1, known.fingerprint, True)
    assert "key values mismatch" in failed.said and list(ca.open) == ["cert.failed/web1"]
    assert len(list(Path(layout.CERT_VERSIONS).iterdir())) == 1


def test_the_first_one_too(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, lambda: certinstall.current("web1") != "")
    certrun.turn("web1")
    assert certinstall.current("web1") == "" and not Path(layout.CERTS, "web1").is_symlink()
    assert certs.state("web1").failures == 1


def test_what_was_broken_before_says_nothing_of_the_certificate(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    certrun.turn("web1")
    first = certinstall.current("web1")
    refusing(monkeypatch, lambda: True)
    ca.units()
    ca.served = "web1.example.net:443 serves another certificate"
    certrun.turn("web1", force=True)
    known = certs.state("web1")
    assert certinstall.current("web1") == known.version != first and ca.units() == []
    assert known.failures == 0 and "key values mismatch" in known.not_served


@pytest.mark.parametrize("days", [90, 45, 6])
def test_what_is_taken_back_leaves_orders_for_whoever_mends_it(
    ca: Ca, later: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Let's Encrypt gives five for the same names in a week."""
    ca.days = days
    certrun.turn("web1")
    first, before = certinstall.current("web1"), len(ca.orders)
    refusing(monkeypatch, lambda: certinstall.current("web1") != first)
    later(days * DAY * 2 // 3 + 60)
    for _ in range(min(7 * 24, days * 8)):  # a week, and no more than the life
        certrun.turn("web1")
        later(3600)
    assert 2 <= len(ca.orders) - before <= 4
    refusing(monkeypatch, lambda: False)
    ca.days = 3 * days  # openssl counts from the real now
    certrun.turn("web1", now=True)
    assert certinstall.current("web1") != first and certs.state("web1").failures == 0


def test_so_does_what_cannot_be_put_in_place(
    ca: Ca, later: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certinstall, "finish", full)
    for _ in range(7 * 24):
        certrun.turn("web1")
        later(3600)
    assert "No space left" in certs.state("web1").said and 2 <= len(ca.orders) <= 4


@pytest.mark.parametrize("unit", RELOADABLE)
def test_each_that_is_reloaded_is_asked_whether_it_would_start(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str], _: int) -> subprocess.CompletedProcess[bytes]:
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 1, b"", b"key values mismatch")

    monkeypatch.setattr(validate, "run", run)
    monkeypatch.setattr("os.path.exists", lambda _: True)
    assert "key values mismatch" in certdeliver.refusal(unit)
    assert len(asked) == 1 and asked[0][0].startswith("/usr/")


def test_units_are_reloaded_and_never_restarted(ca: Ca) -> None:
    certrun.turn("web1")
    assert ca.units() == ["reload nginx.service"]


def test_told_again_at_longer_and_longer_intervals(ca: Ca, later: Callable[[int], None]) -> None:
    certrun.turn("web1")
    ca.served = "web1.example.net:443 serves another certificate"
    certrun.turn("web1", force=True)
    ca.units()
    told = []
    for hour in range(1, 49):
        later(3600)
        certrun.turn("web1")
        told += [hour] if ca.units() else []
    assert told == [1, 2, 4, 8, 16, 28, 40]
    certrun.turn("web1", now=True)
    assert ca.units() == ["reload nginx.service"], "somebody has mended it, and does not want to wait"
    later(3600)
    ca.served = ""
    certrun.turn("web1")
    assert certs.state("web1").served and ca.units() == []


@pytest.mark.parametrize(
    "unit",
    ["mariadb.service", "ssh.service", "serverflow-cert.timer", "nginx", "postgresql@15-main.service",
     "postgresql.service", "lighttpd.service"],
)  # fmt: skip
def test_no_other_unit_can_be_named(ca: Ca, unit: str) -> None:
    put(WISH._replace(reload=(unit,)))
    certrun.turn("web1")
    assert "nginx.service" in certcore.described("web1")["problem"] and ca.units() == []


def test_a_port_over_udp_is_no_port_over_tcp() -> None:
    """pdns has TCP port 53 where nginx has a stream for UDP, and HTTP/3 is UDP (ngx_http_v3_module)."""
    sockets = """LISTEN 0 128 0.0.0.0:{} 0.0.0.0:* users:(("pdns_server",pid=7,fd=4))"""
    for port, listen in (
        (53, "listen 53 udp reuseport;"),
        (443, "listen 443 quic;"),
        (443, "listen 443 reuseport quic;"),
    ):
        assert listeners.taken(listen, sockets.format(port)) == []
    assert listeners.taken("listen 53 reuseport; listen 54 udp;", sockets.format(53))


def test_a_socket_that_is_nobodys_hides_no_other() -> None:
    """ss(8) ends its line with blanks; the order of lines is that of a hash."""
    lines = [
        "LISTEN 0      4096   127.0.0.11:46759 0.0.0.0:*            ",
        'LISTEN 0      5         0.0.0.0:443   0.0.0.0:* users:(("python3",pid=182,fd=3))',
        'LISTEN 0      511       0.0.0.0:80    0.0.0.0:* users:(("nginx",pid=480,fd=5),("nginx",pid=451,fd=5))',
    ]
    for said in itertools.permutations(lines):
        found = listeners.taken("server { listen 443; }", "\n".join((*said, "")))
        assert found == ["port 443 belongs to python3 (process 182)"]
