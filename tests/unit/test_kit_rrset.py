"""Canonical rrsets, held against dnspython: the same octets, and the same text when they are read again."""

from __future__ import annotations

import ipaddress
import socket

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from serverflow_actions.kit.rdata.text import joined, property_of
from serverflow_actions.kit.rrset import TYPES, RRset, fqdn, inside, owner, rrset, ttl, value

ZONE = "acme.app."
DIGEST = "ab" * 32


def wire(type: str, text: str) -> bytes:
    """By dnspython, whose names keep their case; ours never do."""
    found = dns.rdata.from_text(dns.rdataclass.IN, type, text, origin=dns.name.from_text(ZONE), relativize=False)
    return found.to_wire() or b""


# Names


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("@", "acme.app."),
        ("www", "www.acme.app."),
        ("WWW", "www.acme.app."),
        ("a.b", "a.b.acme.app."),
        ("*", "*.acme.app."),
        ("*.web1", "*.web1.acme.app."),
        ("_dmarc", "_dmarc.acme.app."),
        ("_sip._tcp", "_sip._tcp.acme.app."),
        ("app", "app.acme.app."),
        ("acme", "acme.acme.app."),
        ("notacme.app", "notacme.app.acme.app."),
        ("www.acme.app.", "www.acme.app."),
        ("*.acme.app.", "*.acme.app."),
        ("ACME.app.", "acme.app."),
    ],
)
def test_an_owner_is_relative_to_its_zone(raw: str, name: str) -> None:
    assert owner(raw, ZONE) == owner(raw, "acme.app") == name
    assert owner(name, ZONE) == name


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("www.acme.app", "write www, or www.acme.app. with a final dot"),
        ("acme.app", "write @, or acme.app. with a final dot"),
        ("*.web1.acme.app", "write *.web1, or"),
        ("www.acme.org.", "is not in the zone acme.app."),
        ("notacme.app.", "is not in the zone"),
        ("", "is not a domain name"),
        (".", "is not a domain name"),
        ("-x", "is not a domain name"),
        ("x-", "is not a domain name"),
        ("a..b", "is not a domain name"),
        ("a.*.b", "is not a domain name"),
        ("w*", "is not a domain name"),
        ("**", "is not a domain name"),
        ("a b", "is not a domain name"),
        ("a\\.b", "is not a domain name"),
        ("www\n", "is not a domain name"),
        ("bücher", "write it in ASCII (xn--…)"),
        ("\u212a", "write it in ASCII"),  # the Kelvin sign, whose lower case is k
        ("a" * 64, "is not a domain name"),
        (".".join(["a" * 61] * 4), "is not a domain name"),  # too long with its zone only
        (None, "is not a domain name"),
        (7, "is not a domain name"),
    ],
)
def test_an_owner_is_refused(raw: object, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        owner(raw, ZONE)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


def test_an_absolute_name_may_lack_its_final_dot() -> None:
    assert fqdn("Acme.App") == fqdn("acme.app.") == "acme.app."
    assert fqdn("*.acme.app") == "*.acme.app."
    with pytest.raises(ValueError):
        fqdn("@")


def test_names_are_inside_by_whole_labels() -> None:
    assert inside(ZONE, ZONE) and inside("a.acme.app.", ZONE)
    assert not inside("notacme.app.", ZONE) and not inside("app.", ZONE)


def test_the_longest_name_is_the_longest_of_dns() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(dns.name.from_text(fqdn(longest)).to_wire() or b"") == 255
    with pytest.raises(ValueError):
        fqdn(longest + "d")


# Values


@pytest.mark.parametrize(
    ("type", "raw", "canonical"),
    [
        ("A", "203.0.113.7", "203.0.113.7"),
        ("AAAA", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("AAAA", "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),  # one group is not shortened, RFC 5952 4.2.2
        ("AAAA", "::ffff:203.0.113.7", "::ffff:cb00:7107"),
        ("AAAA", "::203.0.113.7", "::cb00:7107"),
        ("HTTPS", "1 . ipv6hint=::ffff:cb00:7107", "1 . ipv6hint=::ffff:203.0.113.7"),
        ("PTR", "_a.b.", "_a.b."),
        ("AAAA", "::1", "::1"),
        ("CNAME", "www", "www.acme.app."),
        ("CNAME", "@", "acme.app."),
        ("CNAME", "Shop.Example.ORG.", "shop.example.org."),
        ("NS", "ns1", "ns1.acme.app."),
        ("PTR", "host.acme.org.", "host.acme.org."),
        ("MX", " 010   mail", "10 mail.acme.app."),
        ("MX", "0 .", "0 ."),
        ("SRV", "0 5 5060 sip", "0 5 5060 sip.acme.app."),
        ("SRV", "0 0 0 .", "0 0 0 ."),
        ("TXT", "v=spf1 -all", '"v=spf1 -all"'),
        ("TXT", 'say "hi" \\o/', '"say \\"hi\\" \\\\o/"'),
        ("TXT", '"a" "b"', '"a" "b"'),
        ("TXT", '"a"   "b" ', '"a" "b"'),
        ("TXT", '"\\065\\000\\"\\;"', '"A\\000\\";"'),
        ("TXT", '""', '""'),
        ("TXT", "é", '"\\195\\169"'),
        ("TXT", "x" * 256, f'"{"x" * 255}" "x"'),
        ("TXT", f'"{"x" * 256}"', f'"{"x" * 255}" "x"'),
        ("CAA", "0 ISSUE letsencrypt.org", '0 issue "letsencrypt.org"'),
        ("CAA", '128 issuewild ";"', '128 issuewild ";"'),
        ("CAA", "0 issue ;", '0 issue ";"'),
        ("TLSA", f"3 1 1 {DIGEST.upper()}", f"3 1 1 {DIGEST}"),
        ("TLSA", f"3 1 1 {DIGEST[:8]} {DIGEST[8:]}", f"3 1 1 {DIGEST}"),
        ("TLSA", "3 0 0 3082", "3 0 0 3082"),
        ("SSHFP", f"4 2 {DIGEST}", f"4 2 {DIGEST}"),
        ("DS", f"60485 8 2 {DIGEST}", f"60485 8 2 {DIGEST}"),
        ("SVCB", "0 svc", "0 svc.acme.app."),
        ("HTTPS", "1 .", "1 ."),
        ("HTTPS", '1 . port=0443 alpn="h2,h3"', "1 . alpn=h2,h3 port=443"),
        ("HTTPS", "1 . mandatory=port,alpn port=1 alpn=h3", "1 . mandatory=alpn,port alpn=h3 port=1"),
        ("HTTPS", "1 . alpn=h3 no-default-alpn", "1 . alpn=h3 no-default-alpn"),
        (
            "HTTPS",
            "1 . ipv6hint=::0:1,2001:DB8::1 ipv4hint=192.0.2.1",
            "1 . ipv4hint=192.0.2.1 ipv6hint=::1,2001:db8::1",
        ),
        ("HTTPS", "1 . ech=AAQAAQAA", '1 . ech="AAQAAQAA"'),
        ("SVCB", "1 dns dohpath=/q{?dns}", '1 dns.acme.app. key7="/q{?dns}"'),
        ("SVCB", "1 dns alpn=h2 ohttp", '1 dns.acme.app. alpn=h2 key8=""'),
        ("SVCB", '1 dns key65000="a \\"\\000"', '1 dns.acme.app. key65000="a \\"\\000"'),
    ],
)
def test_a_value_in_its_canonical_form(type: str, raw: str, canonical: str) -> None:
    assert value(type, raw, ZONE) == canonical
    assert value(type, canonical, "other.example.") == canonical


@pytest.mark.parametrize(
    ("type", "raw", "why"),
    [
        ("A", "010.0.0.1", "not an IPv4 address"),
        ("A", "10.0.0.256", "not an IPv4 address"),
        ("A", "10.0.1", "not an IPv4 address"),
        ("A", "::1", "not an IPv4 address"),
        ("A", "1.2.3.4\n", "one line"),
        ("A", "١.2.3.4", "not an IPv4 address"),
        ("AAAA", "fe80::1%eth0", "not an IPv6 address"),
        ("AAAA", "1.2.3.4", "not an IPv6 address"),
        ("AAAA", "::1/64", "not an IPv6 address"),
        ("CNAME", "www.acme.app", "write www.acme.app. with a final dot, or www.acme.app.acme.app."),
        ("CNAME", ".", "not a domain name"),
        ("CNAME", "*.acme.app.", "not a domain name"),
        ("CNAME", "", "not a domain name"),
        ("MX", "mail", "of the form PREFERENCE HOST"),
        ("MX", "10 mail.acme.app", "with a final dot"),
        ("MX", "65536 mail", "0 to 65535"),
        ("MX", "-1 mail", "not a preference"),
        ("MX", "10 mail more", "not a domain name"),
        ("MX", "10 _mail", "those have no _"),
        ("NS", "_ns.acme.org.", "those have no _"),
        ("SRV", "0 5 5060 _sip", "those have no _"),
        ("SRV", "0 5 sip 5060", "not a port"),
        ("SRV", "0 5 5060", "of the form"),
        ("TXT", "", "no text"),
        ("TXT", '"a', "not a string in quotes"),
        ("TXT", '"a"b', "not a string in quotes"),
        ("TXT", '"a""b"', "not a string in quotes"),
        ("TXT", '"\\256"', "not an escape"),
        ("TXT", '"\\1"', "not a string in quotes"),
        ("TXT", '"\\', "not a string in quotes"),
        ("TXT", '"\\é"', "not an escape"),
        ("TXT", "a\nb", "one line"),
        ("TXT", "a\x85b", "one line"),
        ("TXT", "\ud800", "one line"),
        ("TXT", "x" * 16_000, "more than 16000 octets"),
        ("TXT", "x" * 70_000, "one line"),
        ("CAA", "0 issue", "of the form FLAGS TAG"),
        ("CAA", "256 issue ;", "not flags"),
        ("CAA", "0 is-sue ;", "not a tag"),
        ("CAA", '0 issue "a" "b"', "not one string"),
        ("CAA", '0 issue a"b', "needs quotes"),
        ("CAA", "0 issue a b", "needs quotes"),
        ("TLSA", f"3 1 2 {DIGEST}", "has 128 hexadecimal digits"),
        ("TLSA", "3 1 1", "of the form"),
        ("TLSA", "3 0 0 abc", "in hexadecimal"),
        ("SSHFP", "4 2 zz", "in hexadecimal"),
        ("SSHFP", f"4 1 {DIGEST}", "has 40 hexadecimal digits"),
        ("DS", f"1 8 0 {DIGEST}", "no kind of hash"),
        ("DS", f"65536 8 2 {DIGEST}", "not a key tag"),
        ("DS", f"1 8 4 {DIGEST}", "has 96 hexadecimal digits"),
        ("SVCB", "0 svc port=1", "an alias, which has no keys"),
        ("SVCB", "1", "of the form"),
        ("HTTPS", "1 . port=1 port=2", "twice"),
        ("HTTPS", "1 . port", "needs a value"),
        ("HTTPS", "1 . port=", "not KEY=VALUE"),
        ("HTTPS", '1 . alpn=""', "needs a value"),
        ("HTTPS", "1 . alpn=h2,,h3", "not a list of protocols"),
        ("HTTPS", "1 . no-default-alpn=1 alpn=h2", "no value"),
        ("HTTPS", "1 . no-default-alpn", "nothing without alpn"),
        ("HTTPS", "1 . mandatory=alpn", "mandatory names alpn, which is not there"),
        ("HTTPS", "1 . mandatory=mandatory,port port=1", "not itself"),
        ("HTTPS", "1 . ipv4hint=auto", "not an IPv4 address"),
        ("HTTPS", "1 . ech=!", "not base64"),
        ("HTTPS", "1 . ech=AAUAAQAA", "not an ECHConfigList"),
        ("HTTPS", "1 . key1=x", "is not a key"),
        ("HTTPS", "1 . key65535=x", "is not a key"),
        ("HTTPS", "1 . colour=red", "is not a key"),
        ("HTTPS", "1 www.acme.app alpn=h2", "with a final dot"),
        ("SOA", "x", "is not one of"),
        ("a", "1.2.3.4", "is not one of"),
        (["A"], "1.2.3.4", "is not one of"),
        ("A", 7, "one line"),
        ("A", None, "one line"),
    ],
)  # fmt: skip
def test_a_value_is_refused(type: object, raw: object, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        value(type, raw, ZONE)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


def test_nobody_waits_for_hostile_text() -> None:
    """Each would take minutes by a pattern that tries all ways to split it."""
    for type, raw in (
        ("CAA", "0 issue " + " " * 60_000 + "x y"),
        ("TXT", '"' + "\\\\" * 30_000),
        ("TXT", '"a" ' * 15_000 + "x"),
        ("HTTPS", "1 . " + "a" * 60_000),
        ("HTTPS", "1 . key7=" + "\\" * 60_000),
        ("CNAME", "a." * 30_000),
        ("DS", "1 8 2 " + "a " * 30_000),
    ):
        with pytest.raises(ValueError):
            value(type, raw, ZONE)


# Sets


def test_values_are_a_set() -> None:
    found = rrset("Mail", "AAAA", 300, ["2001:db8::2", "2001:DB8::1", "2001:db8:0::1"], ZONE)
    assert found == RRset("mail.acme.app.", "AAAA", 300, ("2001:db8::1", "2001:db8::2"))
    assert rrset(*found, ZONE) == found


@pytest.mark.parametrize(
    ("name", "type", "seconds", "values", "why"),
    [
        ("www", "A", 300, [], "has no values"),
        ("www", "A", 300, "1.2.3.4", "has no values"),
        ("www", "CNAME", 300, ["a", "b"], "alias of one name"),
        ("www", "A", -1, ["1.2.3.4"], "is not a TTL"),
        ("www", "A", 1 << 31, ["1.2.3.4"], "is not a TTL"),
        ("www", "A", True, ["1.2.3.4"], "is not a TTL"),
        ("www", "A", "300", ["1.2.3.4"], "is not a TTL"),
        ("www.acme.org.", "A", 300, ["1.2.3.4"], "not in the zone"),
    ],
)
def test_a_set_is_refused(name: str, type: str, seconds: int, values: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rrset(name, type, seconds, values, ZONE)


def test_a_ttl_has_31_bits() -> None:
    assert ttl(0) == 0 and ttl((1 << 31) - 1) == 2147483647


def test_what_values_say() -> None:
    assert joined('"v=DKIM1; " "p=é"'.replace("é", "\\195\\169")) == "v=DKIM1; p=é"
    assert property_of('128 issue "le.org; a=\\"b\\""') == (128, "issue", 'le.org; a="b"')


# Against dnspython

HOST_LABEL = st.from_regex(r"\A[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?\Z")
HOST = st.lists(HOST_LABEL, min_size=1, max_size=4).map(".".join).map(lambda name: f"{name}." if "." in name else name)
LABEL = st.from_regex(r"\A[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,8}[a-zA-Z0-9_])?\Z")
ABSOLUTE = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join(labels) + ".")
TARGET = st.one_of(LABEL, ABSOLUTE, st.just("@"))
NUMBER = st.integers(0, 65535)
OCTET = st.integers(0, 255)
LINE = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=600)
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.one_of(
    st.ip_addresses(v=6).map(lambda ip: ip.exploded),
    st.lists(st.sampled_from(["0", "1", "ffff", "AB"]), min_size=8, max_size=8).map(":".join),
    IPV4.map("::ffff:{}".format),
    IPV4.map("::{}".format),
)


def escaped(octets: bytes) -> str:
    return '"' + "".join(f"\\{octet:03d}" for octet in octets) + '"'


def hashed(*lengths: int) -> st.SearchStrategy[tuple[int, str]]:
    """A kind of hash, counted from 1, and one of its length."""
    return st.sampled_from(list(enumerate(lengths, 1))).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.binary(min_size=pair[1], max_size=pair[1]).map(bytes.hex))
    )


def joined_by_space(*parts: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: " ".join(map(str, found)))


ALPN = st.lists(st.sampled_from(["h2", "h3", "http/1.1", "dot"]), min_size=1, max_size=3).map(
    lambda names: "alpn=" + ",".join(names)
)
PARAMS = st.tuples(
    ALPN,
    st.one_of(st.just(""), st.just("no-default-alpn")),
    st.one_of(st.just(""), NUMBER.map("port={}".format)),
    st.one_of(st.just(""), st.lists(IPV4, min_size=1, max_size=3).map(lambda ips: "ipv4hint=" + ",".join(ips))),
    st.one_of(st.just(""), st.lists(IPV6, min_size=1, max_size=3).map(lambda ips: "ipv6hint=" + ",".join(ips))),
    st.sampled_from(["", "mandatory=alpn"]),
    st.sampled_from(["", "ech=AAQAAQAA"]),
    st.one_of(st.just(""), st.binary(min_size=1, max_size=9).map(lambda octets: "key4711=" + escaped(octets))),
).flatmap(lambda params: st.permutations([param for param in params if param]).map(" ".join))
SERVICE = joined_by_space(st.integers(1, 65535), st.one_of(TARGET, st.just(".")), PARAMS)
ALIAS = joined_by_space(st.just(0), TARGET)

VALUES: dict[str, st.SearchStrategy[str]] = {
    "A": IPV4,
    "AAAA": IPV6,
    "CNAME": TARGET,
    "NS": HOST,
    "PTR": TARGET,
    "MX": joined_by_space(NUMBER, st.one_of(HOST, st.just("."))),
    "SRV": joined_by_space(NUMBER, NUMBER, NUMBER, st.one_of(HOST, st.just("."))),
    "TXT": st.lists(st.binary(max_size=255).map(escaped), min_size=1, max_size=4).map(" ".join),
    "CAA": joined_by_space(OCTET, st.from_regex(r"\A[a-z0-9]{1,15}\Z"), st.binary(max_size=300).map(escaped)),
    "DS": st.tuples(NUMBER, OCTET, hashed(20, 32, 32, 48)).map(lambda f: f"{f[0]} {f[1]} {f[2][0]} {f[2][1].upper()}"),
    "SSHFP": st.tuples(OCTET, hashed(20, 32)).map(lambda f: f"{f[0]} {f[1][0]} {f[1][1]}"),
    "TLSA": st.tuples(OCTET, OCTET, hashed(32, 64)).map(lambda f: f"{f[0]} {f[1]} {f[2][0]} {f[2][1]}"),
    "SVCB": st.one_of(SERVICE, ALIAS),
    "HTTPS": st.one_of(SERVICE, ALIAS),
}


def test_every_type_is_tried() -> None:
    assert set(VALUES) == set(TYPES)


@pytest.mark.parametrize("type", TYPES)
@settings(deadline=None)
@given(data=st.data())
def test_canonical_values_are_the_same_octets(type: str, data: st.DataObject) -> None:
    raw = data.draw(VALUES[type])
    found = value(type, raw, ZONE)
    assert wire(type, found).lower() == wire(type, raw).lower()
    assert value(type, found, "other.example.") == found
    assert found.isascii() and found.isprintable()


@pytest.mark.parametrize("type", TYPES)
@settings(deadline=None)
@given(data=st.data())
def test_what_dnspython_writes_comes_to_the_same(type: str, data: st.DataObject) -> None:
    found = value(type, data.draw(VALUES[type]), ZONE)
    theirs = dns.rdata.from_text("IN", type, found).to_text()
    assert value(type, theirs, ZONE) == found


@pytest.mark.parametrize("type", TYPES)
@settings(deadline=None)
@given(raw=st.one_of(st.text(max_size=60), st.text(' "\\.;=@*0123456789abh-_,', max_size=40)))
@example(raw='"" ""')
@example(raw="0 issue \\")
def test_any_text_is_refused_or_one_safe_line(type: str, raw: str) -> None:
    try:
        found = value(type, raw, ZONE)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert found.isascii() and found.isprintable()
    assert not found.startswith("-")
    assert value(type, found, ZONE) == found
    wire(type, found)  # whatever we take, dnspython takes


@given(LINE)
def test_plain_text_is_kept_to_the_letter(raw: str) -> None:
    assume(raw and not raw.startswith('"'))
    found = value("TXT", raw, ZONE)
    assert joined(found) == raw
    strings = dns.rdata.from_text("IN", "TXT", found).strings  # type: ignore[attr-defined]
    assert b"".join(strings) == raw.encode()
    assert all(len(string) == 255 for string in strings[:-1])


@given(st.text(max_size=80))
def test_any_owner_is_refused_or_one_safe_name(raw: str) -> None:
    try:
        found = owner(raw, ZONE)
    except ValueError:
        return
    assert owner(found, ZONE) == found
    assert inside(found, ZONE)
    assert dns.name.from_text(found).to_text() == found == found.lower()


@given(IPV6)
def test_ipv6_is_one_spelling_whatever_python_does(raw: str) -> None:
    by_libc = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, raw))
    hint = value("HTTPS", f"1 . ipv6hint={raw}", ZONE).partition("ipv6hint=")[2]
    assert hint == by_libc
    found = value("AAAA", raw, ZONE)
    assert found == by_libc or ("." in by_libc and "." not in found)
    assert ipaddress.ip_address(found) == ipaddress.ip_address(raw)


def test_the_oracle_is_not_deaf() -> None:
    """wire() would notice another value, and refuses what is none."""
    assert wire("MX", "10 a") != wire("MX", "10 b")
    with pytest.raises(dns.exception.DNSException):
        wire("MX", "10")
