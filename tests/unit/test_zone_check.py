"""Each rule across records: what breaks it is found, and what only looks like that is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverflow_actions.kit.rrset import TYPES, RRset, rrset
from serverflow_cli.config.load import parse
from serverflow_cli.plan import spf
from serverflow_cli.plan.caa import forbidden, relevant
from serverflow_cli.plan.zone_check import SEVERITIES, Finding, check, misplaced
from serverflow_cli.plan.zone_view import ZoneView

ZONE, CA = "acme.app.", "letsencrypt.org"


def records(*lines: str) -> list[RRset]:
    """`NAME TYPE VALUE`, those of one name and type as one rrset."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        name, type, value = line.split(" ", 2)
        found.setdefault((name, type), []).append(value)
    return [rrset(name, type, 300, values, ZONE) for (name, type), values in found.items()]


def told(*lines: str, **options: object) -> list[str]:
    return [
        f"{each.severity} {each.name} {each.type}: {each.sentence} [{each.source}]"
        for each in check(ZONE, records(*lines), **options)  # type: ignore[arg-type]
    ]


HEALTHY = (
    "@ NS ns1.acme.org.",
    "@ NS ns2",
    "@ A 192.0.2.1",
    "ns2 A 192.0.2.2",
    "@ MX 10 mail",
    "@ MX 20 mx.acme.org.",
    "mail AAAA 2001:db8::1",
    "@ TXT v=spf1 mx include:spf.acme.org -all",
    "@ TXT some-verification=1",
    "_dmarc TXT v=DMARC1; p=reject; sp=quarantine; rua=mailto:a@acme.app,mailto:b@acme.app",
    "s1._domainkey TXT v=DKIM1; k=rsa; p=MIGf MA0G",
    "revoked._domainkey TXT v=DKIM1; p=",
    f"ed._domainkey TXT k=ed25519; p={'A' * 43}=",
    "_domainkey TXT o=~",
    "@ CAA 0 issue letsencrypt.org",
    "@ CAA 0 issuewild letsencrypt.org",
    "@ CAA 0 iodef mailto:a@acme.app",
    "@ HTTPS 1 . alpn=h2",
    "www CNAME @",
    "shop CNAME shops.acme.org.",
    "chain CNAME www",
    "*.web1 A 192.0.2.3",
    "by-wildcard CNAME anything.web1.acme.app.",
    "_acme-challenge.web1 CNAME x.acme.org.",
    "_acme-challenge.web2 CNAME x.auth.acme.app.",
    "auth NS ns1.auth.acme.app.",
    "ns1.auth A 192.0.2.4",
    f"auth DS 1 8 2 {'ab' * 32}",
    "_sip._tcp SRV 0 5 5060 mail",
    "_none._tcp SRV 0 0 0 .",
    "null MX 0 .",
    "svc SVCB 0 www",
)


def test_a_healthy_zone() -> None:
    assert told(*HEALTHY, issuer=CA, certificates=["web1.acme.app.", "*.web1.acme.app."]) == []


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        (
            ["www CNAME acme.org.", "www A 192.0.2.1", "www TXT x"],
            "error www.acme.app. CNAME: an alias stands alone, and there is A, TXT [RFC 1034 3.6.2]",
        ),
        (
            ["@ CNAME acme.org."],
            "error acme.app. CNAME: the zone itself has SOA and NS, so it cannot be an alias [RFC 1034 3.6.2]",
        ),
        (
            ["a CNAME b", "b CNAME a"],
            "error a.acme.app. CNAME: it goes in a circle: a.acme.app. → b.acme.app. → a.acme.app. [RFC 1034 3.6.2]",
        ),
        (
            ["a CNAME b", "b CNAME c", "c CNAME b"],
            "error a.acme.app. CNAME: it goes in a circle: a.acme.app. → b.acme.app. → c.acme.app. → b.acme.app. "
            "[RFC 1034 3.6.2]",
        ),
        (["a CNAME a"], "error a.acme.app. CNAME: it goes in a circle: a.acme.app. → a.acme.app. [RFC 1034 3.6.2]"),
        (
            ["@ MX 10 mail", "mail CNAME acme.org."],
            "error acme.app. MX: mail.acme.app. is an alias, and must be a host itself [RFC 2181 10.3]",
        ),
        (
            ["@ MX 10 mail", "* CNAME acme.org."],  # by the wildcard
            "error acme.app. MX: mail.acme.app. is an alias, and must be a host itself [RFC 2181 10.3]",
        ),
        (
            ["_x._tcp SRV 0 0 1 mail", "mail CNAME acme.org."],
            "error _x._tcp.acme.app. SRV: mail.acme.app. is an alias, and must be a host itself [RFC 2782]",
        ),
        (
            ["@ NS ns1", "ns1 CNAME acme.org."],
            "error acme.app. NS: ns1.acme.app. is an alias, and must be a host itself [RFC 2181 10.3]",
        ),
        (
            ["@ MX 10 mail", "mail TXT x"],
            "error acme.app. MX: mail.acme.app. has no address [RFC 5321 5.1]",
        ),
        (["@ MX 10 mail"], "error acme.app. MX: mail.acme.app. is in this zone, and there is nothing [RFC 1912 2.4]"),
        (
            ["www CNAME gone", "x.gone A 192.0.2.1"],  # gone exists, and is empty
            "warning www.acme.app. CNAME: gone.acme.app. is in this zone, and there is nothing [RFC 1912 2.4]",
        ),
        (
            [
                "www CNAME a.web1.acme.app.",
                "*.web1 A 192.0.2.1",
                "x.a.web1 A 192.0.2.1",
            ],  # RFC 4592 2.2.1: a.web1 is not covered
            "warning www.acme.app. CNAME: a.web1.acme.app. is in this zone, and there is nothing [RFC 1912 2.4]",
        ),
        (
            ["www HTTPS 1 gone"],
            "warning www.acme.app. HTTPS: gone.acme.app. is in this zone, and there is nothing [RFC 1912 2.4]",
        ),
        (
            ["@ NS ns1"],
            "error acme.app. NS: ns1.acme.app. is in this zone, which has no address of it: nobody can reach "
            "it [RFC 1034 4.2.1]",
        ),
        (
            ["sub NS ns1.sub.acme.app.", "*.sub A 192.0.2.1"],  # a wildcard is no glue
            "error sub.acme.app. NS: ns1.sub.acme.app. is in this zone, which has no address of it: nobody can reach "
            "it [RFC 1034 4.2.1]",
        ),
        (
            ["sub NS ns.acme.org.", "www.sub A 192.0.2.1"],
            "warning www.sub.acme.app. A: it is never answered: sub.acme.app. is delegated to ns.acme.org. "
            "[RFC 1034 4.2.1]",
        ),
        (
            ["sub NS ns.acme.org.", "sub TXT x"],
            "warning sub.acme.app. TXT: it is never answered: sub.acme.app. is delegated to ns.acme.org. "
            "[RFC 1034 4.2.1]",
        ),
        (
            [f"@ DS 1 8 2 {'ab' * 32}"],
            "error acme.app. DS: the DS of a zone is in its parent, not in itself [RFC 4035 2.4]",
        ),
        ([f"sub DS 1 8 2 {'ab' * 32}"], "error sub.acme.app. DS: there is no delegation (NS) here [RFC 4035 2.4]"),
        (
            ["@ MX 0 .", "@ MX 10 mx.acme.org."],
            "error acme.app. MX: one value says that there is no mail, others say where [RFC 7505 3]",
        ),
        (
            ["www HTTPS 0 acme.org.", "www HTTPS 1 acme.org."],
            "warning www.acme.app. HTTPS: priority 0 is an alias, beside which others are ignored [RFC 9460 2.4.1]",
        ),
        (
            ["@ TXT v=spf1 -all", "@ TXT V=SPF1 mx"],
            "error acme.app. TXT: there are 2 SPF records, so that receivers take none [RFC 7208 4.5]",
        ),
        (
            ["@ TXT v=spf1 include:gone.acme.app -all"],
            "error acme.app. TXT: its SPF includes gone.acme.app., which has none [RFC 7208 5.2]",
        ),
        (
            ["_dmarc TXT p=none; v=DMARC1"],
            "error _dmarc.acme.app. TXT: there is no policy that begins v=DMARC1, so that receivers take none "
            "[RFC 7489 6.6.3]",
        ),
        (
            ["_dmarc TXT v=DMARC1; p=none", "_dmarc TXT v=DMARC1; p=reject"],
            "error _dmarc.acme.app. TXT: there are 2 DMARC policies, so that receivers take none [RFC 7489 6.6.3]",
        ),
        (
            ["_dmarc TXT v=DMARC1; rua=mailto:a@b"],
            "error _dmarc.acme.app. TXT: DMARC: p= is not one of none, quarantine, reject [RFC 7489 6.3]",
        ),
        (
            ["_dmarc.sub TXT v=DMARC1; p=none; sp=all"],
            "error _dmarc.sub.acme.app. TXT: DMARC: sp=all is not one of none, quarantine, reject [RFC 7489 6.3]",
        ),
        (
            ["_dmarc TXT v=DMARC1; p=none; rua=a@b.c"],
            "error _dmarc.acme.app. TXT: DMARC: rua is not a list of mailto: addresses: a@b.c [RFC 7489 6.3]",
        ),
        (
            ["s._domainkey TXT v=DKIM1\\; k=rsa; p=AAAA"],
            "error s._domainkey.acme.app. TXT: DKIM: it has \\; where ; is meant: the backslash belongs to zone files "
            "[RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT k=rsa; v=DKIM1; p=AAAA"],
            "error s._domainkey.acme.app. TXT: DKIM: v=DKIM1 comes first, or not at all [RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT v=DKIM1; k=dsa; p=AAAA"],
            "error s._domainkey.acme.app. TXT: DKIM: k=dsa is neither rsa nor ed25519 [RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT v=DKIM1; k=rsa"],
            "error s._domainkey.acme.app. TXT: DKIM: there is no key (p=) [RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT v=DKIM1; p=…"],
            "error s._domainkey.acme.app. TXT: DKIM: the key (p=) is not base64 [RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT k=ed25519; p=AAAA"],
            "error s._domainkey.acme.app. TXT: DKIM: an Ed25519 key has 32 octets, and this one 3 [RFC 6376 3.6.1]",
        ),
        (
            ["s._domainkey TXT p=AAAA", "s._domainkey TXT p=AAAB"],
            "error s._domainkey.acme.app. TXT: there are 2 DKIM keys by one name [RFC 6376 3.6.2.2]",
        ),
    ],
)
def test_what_breaks_a_rule_is_found(lines: list[str], finding: str) -> None:
    assert finding in told(*lines)


def test_an_alias_at_the_apex_is_flattened_by_some() -> None:
    lines = ["@ CNAME acme.org.", "@ MX 10 mx.acme.org.", "@ TXT x"]
    assert told(*lines, flattens=True) == []
    assert len(told(*lines)) == 1
    assert "there is A [" in told(*lines, "@ A 192.0.2.1", flattens=True)[0]


def test_what_is_delegated_is_not_ours_to_judge() -> None:
    assert not told("sub NS ns.acme.org.", "www CNAME gone.sub.acme.app.", "@ MX 10 gone.sub.acme.app.")
    assert not told("sub NS ns.acme.org.", "other NS ns.sub.acme.app.")  # whose address sub's servers know


def test_the_topmost_delegation_counts() -> None:
    view = ZoneView(ZONE, records("sub NS ns.acme.org.", "a.sub NS ns.acme.org."))
    assert view.cut("x.a.sub.acme.app.") == view.cut("sub.acme.app.") == "sub.acme.app."
    assert view.cut(ZONE) == view.cut("www.acme.app.") == ""


def test_duplicates() -> None:
    twice = RRset("www.acme.app.", "A", 300, ("192.0.2.1", "192.0.2.1"))
    found = check(ZONE, [twice, twice])
    assert [(each.severity, each.sentence) for each in found] == [
        ("error", "it is there 2 times; one rrset has all values"),
        ("warning", "192.0.2.1 is there 2 times"),
    ]


def test_a_ttl_of_zero_is_told_where_somebody_wrote_it() -> None:
    zero = RRset("www.acme.app.", "A", 0, ("192.0.2.1",))
    assert check(ZONE, [zero]) == []
    assert check(ZONE, [zero._replace(ttl=1)], by_hand=[("www.acme.app.", "A")]) == []
    assert check(ZONE, [zero], by_hand=[("www.acme.app.", "A")]) == [
        Finding("warning", "www.acme.app.", "A", "a TTL of 0: no resolver may keep it", "RFC 1035 3.2.1")
    ]


def test_findings_come_errors_first_and_whatever_the_order_of_records() -> None:
    lines = ["www CNAME gone", "@ MX 10 mail", "b CNAME b", "_dmarc TXT x"]
    found = told(*lines)
    assert found == told(*lines[::-1])
    assert [each.split(" ")[0] for each in found] == ["error"] * 3 + ["warning"]
    assert set(SEVERITIES) == {"error", "warning"}


# SPF


def lookups(*lines: str) -> int:
    return spf.Lookups(ZoneView(ZONE, records(*lines))).of(ZONE)


@pytest.mark.parametrize(
    ("terms", "count"),
    [
        ("-all", 0),
        ("ip4:192.0.2.0/24 ip6:2001:db8::/32 exp=x.acme.org -all", 0),
        ("a mx ptr +a:x.acme.org ~mx/24 ?exists:%{i}.acme.org A:y.acme.org/24 -all", 7),
        ("include:a.org include:%{d}.b.org redirect=c.org", 3),
        ("redirect=c.org -all", 0),
        ("-all a mx", 0),
        ("include:one.acme.app include:one.acme.app", 2 + 2 * 3),
        ("include:alias.acme.app", 1 + 3),
        ("include:sub.acme.app", 1),
    ],
)
def test_lookups_are_counted_as_far_as_the_zone_knows(terms: str, count: int) -> None:
    zone = ["one TXT v=spf1 a mx include:x.org -all", "alias CNAME one", "sub NS ns.acme.org."]
    assert lookups(f"@ TXT v=spf1 {terms}", *zone) == count


@pytest.mark.parametrize(("number", "fine"), [(10, True), (11, False)])
def test_ten_lookups_are_allowed(number: int, fine: bool) -> None:
    found = told("@ TXT v=spf1 " + " ".join(f"include:x{at}.org" for at in range(number)) + " -all")
    assert bool(found) is not fine
    if found:
        assert found == [
            "error acme.app. TXT: its SPF needs 11 lookups or more, and receivers give up after 10 [RFC 7208 4.6.4]"
        ]


def test_a_circle_of_includes_is_too_much() -> None:
    assert lookups("@ TXT v=spf1 include:acme.app -all") > spf.MOST
    assert lookups("@ TXT v=spf1 include:b.acme.app", "b TXT v=spf1 include:acme.app") > spf.MOST


def test_includes_that_branch_are_counted_once_each() -> None:
    """Two includes of each by the one before it: 2^60 ways."""
    lines = [f"n{at} TXT v=spf1 include:n{at + 1}.acme.app include:n{at + 1}.acme.app" for at in range(60)]
    assert lookups("@ TXT v=spf1 include:n0.acme.app", *lines, "n60 TXT v=spf1 a") > 1 << 60


# CAA


@pytest.mark.parametrize(
    ("values", "wildcard", "reason"),
    [
        (['0 issue "letsencrypt.org"'], False, ""),
        (['0 issue "letsencrypt.org"'], True, ""),
        (['0 issue " LetsEncrypt.org ; accounturi=https://x/1"'], False, ""),
        (['0 issue "ca.org"', '0 issue "letsencrypt.org"'], False, ""),
        (['0 issue "ca.org"'], False, "issue allows ca.org, not letsencrypt.org"),
        (['0 issue "ca.org"'], True, "issue allows ca.org, not letsencrypt.org"),
        (['0 issue ";"'], False, "issue allows no CA at all, not letsencrypt.org"),
        (['0 issue ""'], False, "issue allows no CA at all, not letsencrypt.org"),
        (['0 issue "letsencrypt.org"', '0 issuewild ";"'], False, ""),
        (['0 issue "letsencrypt.org"', '0 issuewild ";"'], True, "issuewild allows no CA at all, not letsencrypt.org"),
        (['0 issue "ca.org"', '0 issuewild "letsencrypt.org"'], True, ""),
        (['0 issuewild ";"'], False, ""),
        (['0 iodef "mailto:a@b.c"'], True, ""),
        (['128 issue "letsencrypt.org"'], False, ""),
        (['128 tbs "x"'], False, "the property tbs is critical, and no CA knows it"),
        (['0 tbs "x"'], False, ""),
        (['0 issue "letsencrypt.org; validationmethods=http-01,dns-01"'], False, ""),
        (
            ['0 issue "letsencrypt.org; validationmethods=http-01"'],
            False,
            "issue allows letsencrypt.org only by http-01, not by dns-01 (RFC 8657)",
        ),
    ],
)
def test_what_a_set_of_caa_forbids(values: list[str], wildcard: bool, reason: str) -> None:
    assert forbidden(values, CA, wildcard) == reason


def test_the_closest_caa_counts() -> None:
    zone = records(
        "@ CAA 0 issue ca.org",
        "web1 CAA 0 issue letsencrypt.org",
        "*.web1 CAA 0 issue ca.org",  # for names below web1, not for a certificate of *.web1
        "a.web1 A 192.0.2.1",
        "to-web1 CNAME web1",
        "away CNAME acme.org.",
    )
    view = ZoneView(ZONE, zone)

    def where(name: str) -> str:
        found = relevant(view, name)
        return found.name if found else ""

    assert where("web1.acme.app.") == where("*.web1.acme.app.") == where("a.web1.acme.app.") == "web1.acme.app."
    assert where("x.y.web1.acme.app.") == "*.web1.acme.app."
    assert where("to-web1.acme.app.") == "web1.acme.app."  # the alias is followed
    assert where("away.acme.app.") == where("web2.acme.app.") == ZONE
    assert relevant(ZoneView(ZONE, []), ZONE) is None


def test_caa_is_looked_at_for_the_certificates_that_are_wanted() -> None:
    lines = ["@ CAA 0 issue ca.org", "web1 CAA 0 issue letsencrypt.org", "web1 CAA 0 issuewild ;"]
    names = ["web1.acme.app.", "*.web1.acme.app."]
    assert told(*lines, issuer=CA, certificates=names) == [
        "error web1.acme.app. CAA: no certificate for *.web1.acme.app.: issuewild allows no CA at all, not "
        "letsencrypt.org [RFC 8659 3]"
    ]
    assert len(told(*lines, issuer=CA)) == 3
    assert told(*lines) == []


# All of it

NAMES = st.sampled_from(["@", "a", "b", "a.b", "*", "*.b", "_dmarc", "s._domainkey"])
TARGETS = st.sampled_from(["@", "a", "b", "a.b.acme.app.", "x.a.acme.app.", "acme.org."])
RECORDS = st.one_of(
    st.tuples(NAMES, st.sampled_from(["CNAME", "NS", "PTR"]), TARGETS),
    st.tuples(NAMES, st.just("MX"), TARGETS.map("10 {}".format)),
    st.tuples(NAMES, st.just("HTTPS"), TARGETS.map("1 {}".format)),
    st.tuples(NAMES, st.just("A"), st.just("192.0.2.1")),
    st.tuples(NAMES, st.just("TXT"), st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(
        lambda text: not text.startswith('"')
    )),
    st.tuples(NAMES, st.just("TXT"), st.sampled_from(["v=spf1 include:a.acme.app", "v=DMARC1;;=", "v=spf1 redirect="])),
    st.tuples(NAMES, st.just("CAA"), st.text(";= a.,", min_size=1).map('0 issue "{}"'.format)),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=15))
def test_no_zone_confuses_it(lines: list[tuple[str, str, str]]) -> None:
    sets = [rrset(name, type, 300, [value], ZONE) for name, type, value in lines]
    for each in check(ZONE, sets, issuer=CA):
        assert each.severity in SEVERITIES and each.sentence and each.source.startswith("RFC ")


@pytest.mark.parametrize("kind", [*TYPES, "LOC", "ALIAS", "TYPE65534"])
def test_what_others_made_of_it_is_never_too_much(kind: str) -> None:
    """Names, types and values that our grammar does not have: no rule is for them, and they end none."""
    names = ("", "www.", "0/25.", "a\\.b.", "*.", "_dmarc.", "s._domainkey.")
    values = (
        "",
        " ",
        ".",
        "\\",
        '"',
        "x",
        "1 2",
        "1 2 3",
        "0 issue",
        "v=spf1 include:",
        "1.0/25.acme.test.",
        "é",
        "\0",
    )
    for name in names:
        for text in values:
            odd = RRset(f"{name}acme.test.", kind, 0, (text, "x"))
            check(
                "acme.test.",
                [RRset("acme.test.", "NS", 0, ("ns.acme.test.",)), odd],
                issuer="ca.test",
                by_hand={odd[:2]},
            )


def test_an_odd_name_is_there_all_the_same() -> None:
    """A CNAME as RFC 2317 has it leads to a name that we would not write, and does not dangle."""
    found = check("acme.test.", [RRset("1.acme.test.", "CNAME", 0, ("1.0/25.acme.test.",))])
    assert found == []


def test_a_name_server_of_ours_is_published_where_its_server_is() -> None:
    fleet = parse("""schema = 1
[servers.db1]
host = "192.0.2.4"
addresses = ["192.0.2.4", "192.0.2.5"]
[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1" }
[dns.zones."acme.app"]
provider = "own"
""")
    right = records("ns1 A 192.0.2.5", "ns1 AAAA 2001:db8::1", "ns1 TXT x", "www A 192.0.2.77")
    assert misplaced(fleet, right) == []  # nobody knows its IPv6 addresses
    (found,) = misplaced(fleet, records("ns1 A 192.0.2.77", "ns1 A 192.0.2.4"))
    assert found[:3] == ("error", "ns1.acme.app.", "A")
    assert found.sentence == "192.0.2.77 is not db1, which is to answer there, but 192.0.2.4, 192.0.2.5 is"
