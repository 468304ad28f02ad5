"""The grammars against values that nobody thought of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit.grammar import TYPES

each_type = pytest.mark.parametrize("name", sorted(set(TYPES) - {"document"}))
anything = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(), st.lists(st.text()), st.binary())


@each_type
@given(rest=st.text())
def test_a_leading_dash_is_refused(name: str, rest: str) -> None:
    with pytest.raises(ValueError):
        TYPES[name]("-" + rest)


@each_type
@given(raw=anything)
def test_a_value_is_refused_or_safe_for_one_line(name: str, raw: Any) -> None:
    try:
        value = TYPES[name](raw)
    except ValueError:
        return
    assert isinstance(value, (str, int))
    if isinstance(value, str):
        assert value.isprintable()


@each_type
@given(head=st.text(max_size=8), control=st.sampled_from("\n\r\0\x1b\x7f\t\x85\u2028\u202e"), tail=st.text(max_size=8))
def test_control_characters_are_refused(name: str, head: str, control: str, tail: str) -> None:
    with pytest.raises(ValueError):
        TYPES[name](head + control + tail)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("integer", True), ("integer", -1), ("integer", "1e3"), ("integer", "٣"), ("port", 0), ("port", 65536),
        ("boolean", 1), ("boolean", "yes"), ("size", "256"), ("size", "1MB"), ("duration", "90"), ("duration", "1w"),
        ("unit", "../x"), ("unit", "*"), ("unit", "a b"), ("path", "a/b"), ("path", "/a/../b"), ("path", "/a//b"),
        ("relpath", "a/../b"), ("relpath", "../a"), ("relpath", "a/"), ("relpath", ""), ("package", "sudo-"),
        ("package", "a b"), ("name", "-a"), ("name", "a-"), ("name", "A"), ("hostname", "a..b"), ("hostname", "a_b"),
        ("timezone", "../etc/passwd"), ("timezone", "Europe/../x"), ("mode", "4755"), ("mode", "u+s"),
        ("cidr", "1.2.3"), ("cidr", "10.0.0.0/33"), ("cidr", "::::"), ("address", "10.0.0.0/8"),
        ("address", "fe80::1%eth0"),
        ("rule", "80"), ("rule", "0/tcp"), ("rule", "80/icmp"), ("rule", "90-80/tcp"), ("rule", "80/tcp from all"),
        ("rule", "80/tcp  from 10.0.0.1"), ("rule", "80/tcp from 10.0.0.0/33"),
        ("schedule", "* * * *"), ("schedule", "@reboot"), ("schedule", "60 * * * *"), ("schedule", "*\t* * * *"),
        ("action", "service"), ("action", "service.*"), ("action", "a.b.c"), ("eventrule", "cron.* bad"),
        ("eventrule", "cron.nothing"), ("eventrule", "cron.failed  error"),
        ("routehost", "*.app"), ("routehost", "a.*.b"), ("routehost", "**.a.b"), ("routehost", "a;b"),
        ("routehost", "~a"), ("target", "0"), ("target", "a.b:80"), ("target", "10.0.0.1"), ("target", "fd00::1:80"),
        ("target", "/etc/nginx"), ("target", "/srv"), ("target", "/srv/a/../b"), ("target", "/srv/.git"),
        ("target", "/srv/a;b"), ("target", "/srv/$host"), ("target", "unix:/etc/x"), ("target", "unix:/run/a:b"),
        ("target", "http://x:80"), ("location", "/ 80"), ("location", "api 80"), ("location", "/a/../b 80"),
        ("location", "/a  80"), ("location", "/a{ 80"), ("location", "/.git 80"), ("rate", "0/s"), ("rate", "10"),
        ("rate", "1/h"),
        ("gecos", "a:b"), ("gecos", "a,b"), ("username", "a$"), ("fingerprint", "SHA256:x"),
        ("sshkey", 'command="x" ssh-ed25519 AAAA'), ("sshkey", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQ"),
    ],
)  # fmt: skip
def test_refused(name: str, raw: object) -> None:
    with pytest.raises(ValueError):
        TYPES[name](raw)


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("integer", "10", 10), ("size", "2GiB", 2 << 30), ("duration", "2h", 7200), ("unit", "nginx", "nginx.service"),
        ("unit", "redis-server@cache", "redis-server@cache.service"), ("unit", "a.timer", "a.timer"),
        ("package", "libstdc++6:amd64", "libstdc++6:amd64"), ("package", "g++", "g++"), ("relpath", "a/b", "a/b"),
        ("cidr", "10.1.2.3/8", "10.0.0.0/8"), ("cidr", "2001:DB8::0:1", "2001:db8::1"),
        ("rule", "080-80/tcp", "80/tcp"), ("rule", "53/udp from 10.1.2.3/8", "53/udp from 10.0.0.0/8"),
        ("address", "10.0.0.1", "10.0.0.1"), ("schedule", "05 03  * * MON", "5 3 * * mon"),
        ("schedule", "@midnight", "@daily"), ("action", "service.restart", "service.restart"),
        ("eventrule", "cron.* error", "cron.*"), ("eventrule", "* info", "* info"),
        ("routehost", "*.web1.acme.app", "*.web1.acme.app"), ("target", "03000", "3000"), ("rate", "600/m", "600/m"),
        ("target", "localhost:3000", "3000"), ("target", "[FD00::0:1]:80", "[fd00::1]:80"), ("target", "shop", "shop"),
        ("target", "/srv/shop/public/", "/srv/shop/public"), ("target", "unix:/run/a.sock", "unix:/run/a.sock"),
        ("location", "/api/ 10.0.0.5:80", "/api 10.0.0.5:80"),
        ("timezone", "America/Argentina/Ushuaia", "America/Argentina/Ushuaia"), ("mode", "640", "640"),
    ],
)  # fmt: skip
def test_accepted(name: str, raw: object, value: object) -> None:
    assert TYPES[name](raw) == value
