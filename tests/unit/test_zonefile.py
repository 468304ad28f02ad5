"""Zone files: what we write is read by dnspython and by us, and nothing that others write gets lost without a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit.rrset import RRset, rrset
from serverflow_cli.model.zone import Served, ZoneState
from serverflow_cli.plan.zonefile import ZoneFileError, read
from serverflow_cli.plan.zonefile import export as export_state

ZONE = "acme.app."
DIGEST = "ab" * 32
#: One of each type, and values with all that has to be escaped.
RRSETS = tuple(
    rrset(name, type, ttl, values, ZONE)
    for name, type, ttl, values in (
        ("@", "A", 60, ["192.0.2.1", "192.0.2.2"]),
        ("@", "CAA", 300, ['0 issue "le.org; a=\\"b\\""', '128 iodef "mailto:a@b.c"']),
        ("@", "HTTPS", 300, ['1 . alpn=h2,h3 ipv4hint=192.0.2.1 key7="/q;{?dns}"']),
        ("@", "MX", 300, ["10 mail", "0 ."]),
        ("@", "NS", 86400, ["ns1", "ns.acme.org."]),
        ("@", "TXT", 300, ["v=spf1 -all", "; no comment ()", 'é "quoted" \\ $TTL', "x" * 600]),
        ("*", "AAAA", 300, ["2001:db8::1"]),
        ("_443._tcp", "TLSA", 300, [f"3 1 1 {DIGEST}"]),
        ("_dns", "SVCB", 300, ["0 dns"]),
        ("_sip._tcp", "SRV", 300, ["0 5 5060 sip.acme.org."]),
        ("host", "SSHFP", 300, [f"4 2 {DIGEST}"]),
        ("ptr", "PTR", 300, ["host"]),
        ("sub", "DS", 300, [f"1 8 2 {DIGEST}"]),
        ("www", "CNAME", 300, ["@"]),
    )
)


def export(zone: str, rrsets: Iterable[RRset]) -> str:
    return export_state(ZoneState(zone, tuple(map(Served, rrsets)), "1", ()))


def test_what_we_write_we_read() -> None:
    found = read(export(ZONE, RRSETS), ZONE)
    assert set(found.rrsets) == set(RRSETS) and not found.problems
    assert export(ZONE, found.rrsets) == export("acme.app", RRSETS[::-1])  # whatever their order


def test_what_we_write_is_a_zone_to_dnspython() -> None:
    zone = dns.zone.from_text(export(ZONE, RRSETS), origin=ZONE, relativize=False, check_origin=False)
    theirs = {(name.to_text(), ttl, rdata) for name, ttl, rdata in zone.iterate_rdatas()}
    assert len(theirs) == sum(len(each.values) for each in RRSETS)
    assert {(name, ttl) for name, ttl, _ in theirs} == {(each.name, each.ttl) for each in RRSETS}


def test_a_ttl_of_the_providers_choice_gets_a_number() -> None:
    auto = RRset("www.acme.app.", "A", 0, ("192.0.2.1",))
    text = export(ZONE, [RRset("a.acme.app.", "A", 60, ("192.0.2.1",)), auto])
    assert read(text, ZONE).rrsets[1] == auto._replace(ttl=300)


def test_what_is_proxied_is_a_comment() -> None:
    web = RRset("www.acme.app.", "A", 0, ("192.0.2.1",))
    text = export_state(ZoneState(ZONE, (Served(web, proxied=True),), "1", ()))
    assert text.endswith("\t192.0.2.1\t; proxied\n")
    assert read(text, ZONE).rrsets == (web._replace(ttl=300),)


def test_no_value_becomes_two_lines() -> None:
    with pytest.raises(ZoneFileError, match="more than a line"):
        export(ZONE, [RRset("www.acme.app.", "LOC", 60, ("x\nwww.acme.app. 60 IN A 192.0.2.66",))])


def test_types_that_only_the_provider_knows_are_written_too() -> None:
    assert "LOC\t1 2 3" in export(ZONE, [RRset("www.acme.app.", "LOC", 60, ("1 2 3",))])


def test_a_file_as_others_write_it() -> None:
    found = read(
        """\
$TTL 1h
@   IN SOA ns1 hostmaster ( 2026010101 ; serial
        1d 2h 4w 5m )
        IN NS  ns1.acme.org.
        NS  NS2.acme.org.       ; goes on with the last name
www     5m IN A 192.0.2.1
        IN 300 A 192.0.2.2
$ORIGIN sub.acme.app.
www     CNAME www.acme.app.
@       TXT ( "one"
              "two" ) three
\\042    A 192.0.2.3
""",
        ZONE,
    )
    assert found.rrsets == (
        RRset(ZONE, "NS", 3600, ("ns1.acme.org.", "ns2.acme.org.")),
        RRset("sub.acme.app.", "TXT", 3600, ('"one" "two" "three"',)),
        RRset("*.sub.acme.app.", "A", 3600, ("192.0.2.3",)),
        RRset("www.sub.acme.app.", "CNAME", 3600, ("www.acme.app.",)),
        RRset("www.acme.app.", "A", 300, ("192.0.2.1", "192.0.2.2")),
    )
    assert found.problems == ("1 × SOA is left out: providers make it",)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("www LOC 52 22 23.000 N 4 53 32.000 E -2.00m", "www.acme.app. LOC is left out: sf has no such type"),
        ("www TYPE65280 \\# 1 00", "www.acme.app. TYPE65280 is left out: sf has no such type"),
        ("www.acme.org. A 192.0.2.1", "www.acme.org. A is left out: www.acme.org. is not in the zone acme.app."),
        ("a\\.b A 192.0.2.1", "is not a domain name"),
        ("@ MX 10 _mail", "those have no _"),
        ("@ DNSKEY 257 3 13 AAAA", "1 × DNSKEY is left out: providers make it"),
        ("www 1m A 192.0.2.2\nwww 1h A 192.0.2.1", "www.acme.app. A has the TTLs 60, 3600"),
        ("www CNAME a\nwww CNAME b", "CNAME is left out: 'www.acme.app.' CNAME has 2 values"),
    ],
)
def test_what_has_no_place_is_told(line: str, note: str) -> None:
    found = read(f"$TTL 1h\nkept A 192.0.2.9\n{line}\n", ZONE)
    assert len(found.problems) == 1 and note in found.problems[0]
    assert RRset("kept.acme.app.", "A", 3600, ("192.0.2.9",)) in found.rrsets


def test_the_lowest_of_several_ttls_is_taken() -> None:
    assert read("www 1h A 192.0.2.1\nwww 1m A 192.0.2.2\n", ZONE).rrsets[0].ttl == 60


def test_an_alias_beside_others_is_read() -> None:
    """zone_check says more about it than a syntax error would."""
    found = read("$TTL 1h\n@ CNAME a.b.\n@ NS a.b.\n", ZONE)
    assert [each.type for each in found.rrsets] == ["CNAME", "NS"]


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        (
            "$INCLUDE {secret}\n",
            "at line 1, or the one before it: zone file directive '$INCLUDE' is not allowed",
            "only $ORIGIN and $TTL",
        ),
        ("$include {secret}\n", "'$INCLUDE' is not allowed", "only $ORIGIN and $TTL"),
        ("$TTL 1h\n$GENERATE 0-4294967295 a$ A 192.0.2.1\n", "at line 2, or", "only $ORIGIN"),
        ("www A 192.0.2.1\n", "Missing default TTL value", "$TTL 1h"),
        ("$TTL 1h\nwww A 192.0.2.256\n", "at line 3, or the one before it: ", ""),
        ("$TTL 1h\nwww CH TXT x\n", "class", ""),
        ("$TTL 1h\nwww NONSENSE x\n", "unknown rdatatype 'NONSENSE'", ""),
        ("$TTL 1h\nwww TXT ( a\n", "cannot be read at line", ""),
        ('$TTL 1h\nwww TXT "a\n', "at line 3, or the one before it: newline in quoted string", ""),
        ("$TTL soon\n", "cannot be read", ""),
        ("$ORIGIN a..b\n", "cannot be read", ""),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, why: str, hint: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2 3600 IN A 192.0.2.1\n")
    with pytest.raises(ZoneFileError) as refused:
        read(text.replace("{secret}", str(secret)), ZONE)
    assert why in refused.value.message and hint in refused.value.hint
    assert "hunter2" not in refused.value.message
    assert refused.value.code == "zone-file" and refused.value.exit_code == 3


@given(st.one_of(st.text(max_size=200), st.text('$ORIGINTL@ \n\t()";\\.019aA', max_size=200)))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text, ZONE)
    except ZoneFileError:
        return
    assert read(export(ZONE, found.rrsets), ZONE).rrsets == tuple(
        each._replace(ttl=each.ttl or 300) for each in found.rrsets
    )
