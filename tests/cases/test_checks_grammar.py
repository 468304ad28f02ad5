"""The grammar of checks: what is one, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit.checks import Check, parse, place


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("tcp 127.0.0.1:5432", Check("tcp", "127.0.0.1:5432")),
        ("tcp db1.acme.app:22", Check("tcp", "db1.acme.app:22")),
        ("tcp [::1]:6379", Check("tcp", "[::1]:6379")),
        ("http http://127.0.0.1/ 200", Check("http", "http://127.0.0.1/", "200")),
        ("http https://acme.app:8443/a?b=c%20d 301", Check("http", "https://acme.app:8443/a?b=c%20d", "301")),
        ("http http://[::1]:80/x 204", Check("http", "http://[::1]:80/x", "204")),
        ("http http://[::1] 204", Check("http", "http://[::1]", "204")),
        ("http http://localhost 200", Check("http", "http://localhost", "200")),
        ("unit nginx.service active", Check("unit", "nginx.service", "active")),
        ("unit nginx inactive", Check("unit", "nginx.service", "inactive")),
        ("dns example.org A", Check("dns", "example.org", "A")),
        ("dns example.org AAAA", Check("dns", "example.org", "AAAA")),
    ],
)
def test_a_check(text: str, check: Check) -> None:
    assert parse(text) == check


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "tcp", "tcp ", "tcp 127.0.0.1", "tcp :80", "tcp 127.0.0.1:0", "tcp 127.0.0.1:65536", "tcp ::1:80",
        "tcp 1.2.3:80", "tcp 10.0.0.0/8:80", "tcp [10.0.0.1]:80", "tcp [fe80::1%eth0]:80", "tcp -x:80", "tcp a_b:80",
        "tcp a:80 b", "tcp  a:80", "tcp a:80 ", "tcp a:80\n", "TCP a:80", "udp a:80",
        "http http://a/", "http http://a/ 99", "http http://a/ 600", "http http://a/ ok", "http a/ 200",
        "http ftp://a/ 200", "http file:///etc/passwd 200", "http HTTP://a/ 200", "http http:///x 200",
        "http http://user@a/ 200", "http http://u:p@a/ 200", "http http://a/#x 200", "http http://a:0/ 200",
        "http http://a:99999/ 200", "http http://a:/ 200", "http http://a\\b/ 200", "http http://a/\\ 200",
        "http http://[::1/ 200", "http http://[::1]x/ 200", "http http://a/é 200", "http http://a/\t 200",
        "http http://" + "a" * 1024 + "/ 200",
        "unit nginx", "unit nginx failed", "unit ../x active", "unit * active",
        "dns example.org", "dns example.org MX", "dns -a A", "dns example.org a",
        None, 5, ["tcp a:80"],
    ],
)  # fmt: skip
def test_no_check(text: Any) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_the_place_of_a_tcp_check() -> None:
    assert place("[::1]:6379") == ("::1", 6379)
    assert place("db1:22") == ("db1", 22)


@given(text=st.text(), kind=st.sampled_from(("", "tcp ", "http http://", "unit ", "dns ")))
def test_whatever_is_written_is_a_check_or_refused(text: str, kind: str) -> None:
    try:
        found = parse(kind + text)
    except ValueError as error:
        assert str(error)
        return
    assert " " not in found.target
    assert (found.target + found.expected).isprintable()
