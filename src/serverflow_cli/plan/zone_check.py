"""What is wrong with a zone although each of its records is well formed: rules across records.

Only what the zone itself says is looked at; nobody is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from serverflow_actions.kit import rrset as canonical
from serverflow_actions.kit.rdata.text import joined
from serverflow_actions.kit.rrset import RRset, fqdn, inside

from . import caa, mail_policy, spf
from .zone_diff import DNSSEC
from .zone_view import ADDRESSES, ZoneView
from .zones import addresses

if TYPE_CHECKING:
    from ..model.fleet import Fleet

#: From the gravest on. An error breaks something for somebody; a warning is seldom meant.
SEVERITIES = ("error", "warning")


#: Where it says that a target has an address.
_HOST_SOURCES = {"MX": "RFC 5321 5.1", "SRV": "RFC 2782", "SVCB": "RFC 9460 2.5", "HTTPS": "RFC 9460 2.5"}


class Finding(NamedTuple):
    """`source` is the rule that it goes against, to read on."""

    severity: str
    name: str
    type: str
    sentence: str
    source: str


def check(
    zone: str,
    rrsets: Sequence[RRset],
    *,
    issuer: str = "",
    certificates: Sequence[str] = (),
    by_hand: Collection[tuple[str, str]] = (),
    flattens: bool = False,
) -> list[Finding]:
    """All findings, errors first, then along the tree of names.

    issuer        the CA's issuer domain name, such as letsencrypt.org; without it CAA is not looked at
    certificates  absolute names and wildcards that it shall issue for; without them, those of each CAA rrset
    by_hand       name and type of what has its TTL written out, so that 0 does not mean the provider's choice
    flattens      whether the provider answers an alias at the apex with addresses, as Cloudflare does
    """
    rrsets = [_legible(each, zone) for each in rrsets]
    view = ZoneView(zone, rrsets)
    found = [
        *_duplicates(rrsets),
        *_aliases(view, rrsets, flattens),
        *(finding for each in rrsets for finding in _targets(view, each)),
        *(finding for each in rrsets for finding in _delegations(view, each)),
        *(finding for each in rrsets for finding in _nothing_beside(each)),
        *_spf(view, rrsets),
        *(finding for each in rrsets if each.type == "TXT" for finding in _policies(each)),
        *_issuing(view, rrsets, issuer, certificates),
        *(
            Finding("warning", each.name, each.type, "a TTL of 0: no resolver may keep it", "RFC 1035 3.2.1")
            for each in rrsets
            if each.ttl == 0 and (each.name, each.type) in by_hand
        ),
    ]
    return sorted(
        dict.fromkeys(found),
        key=lambda each: (SEVERITIES.index(each.severity), each.name.split(".")[::-1], each.type, each.sentence),
    )


def misplaced(fleet: Fleet, rrsets: Sequence[RRset]) -> list[Finding]:
    """Name servers of our own whose published address is none of their server's. Of a kind of address of which the file
    has none for the server nobody can say.
    """
    ours = {
        fqdn(name): server
        for settings in fleet.dns.providers.values()
        if settings.provider == "powerdns"
        for name, server in settings.nameservers.items()
    }
    found = []
    for each in rrsets:
        server = ours.get(each.name) if each.type in ADDRESSES else None
        version = 4 if each.type == "A" else 6
        known = [one for one in addresses(fleet, server) if ip_address(one).version == version] if server else []
        for value in each.values if known else ():
            if value not in known:
                sentence = f"{value} is not {server}, which is to answer there, but {', '.join(known)} is"
                found.append(Finding("error", each.name, each.type, sentence, "RFC 1912 2.8"))
    return found


def _legible(each: RRset, zone: str) -> RRset:
    """With those of its values that follow our grammar; of others we do not know the rules."""
    return each._replace(values=tuple(text for text in each.values if _is_legible(each.type, text, zone)))


def _is_legible(kind: str, text: str, zone: str) -> bool:
    try:
        return canonical.value(kind, text, zone) == text
    except ValueError:
        return False


def _duplicates(rrsets: Sequence[RRset]) -> Iterator[Finding]:
    for (name, kind), count in Counter((each.name, each.type) for each in rrsets).items():
        if count > 1:
            yield Finding("error", name, kind, f"it is there {count} times; one rrset has all values", "RFC 2181 5")
    for each in rrsets:
        for value, count in Counter(each.values).items():
            if count > 1:
                yield Finding("warning", each.name, each.type, f"{value} is there {count} times", "RFC 2181 5")


def _aliases(view: ZoneView, rrsets: Sequence[RRset], flattens: bool) -> Iterator[Finding]:
    for each in rrsets:
        if each.type != "CNAME":
            continue
        at_apex = each.name == view.zone
        if at_apex and not flattens:
            yield Finding(
                "error",
                each.name,
                "CNAME",
                "the zone itself has SOA and NS, so it cannot be an alias",
                "RFC 1034 3.6.2",
            )
        beside = sorted(view.exactly(each.name).keys() - DNSSEC - {"CNAME"})
        if at_apex:
            beside = [kind for kind in beside if kind in ADDRESSES]
        if beside:
            yield Finding(
                "error",
                each.name,
                "CNAME",
                f"an alias stands alone, and there is {', '.join(beside)}",
                "RFC 1034 3.6.2",
            )
        chain = view.chain(each.name)
        if chain[-1] in chain[:-1]:
            yield Finding("error", each.name, "CNAME", f"it goes in a circle: {' → '.join(chain)}", "RFC 1034 3.6.2")
        elif each.values and view.knows(each.values[0]) and not view.at(each.values[0]):
            yield _dangling("warning", each, each.values[0])


def _targets(view: ZoneView, each: RRset) -> Iterator[Finding]:
    """Hosts that MX, SRV, SVCB and HTTPS lead to."""
    if each.type not in ("MX", "SRV", "SVCB", "HTTPS"):
        return
    bound = each.type in ("MX", "SRV")
    source = "RFC 2181 10.3" if each.type == "MX" else "RFC 2782"
    for value in each.values:
        fields = value.split(" ")
        host = fields[-1] if bound else fields[1]
        if not view.knows(host):
            continue
        there = view.at(host)
        if "CNAME" in there and bound:
            yield Finding("error", each.name, each.type, f"{host} is an alias, and must be a host itself", source)
        elif not there:
            yield _dangling("error" if bound else "warning", each, host)
        elif "CNAME" not in there and not there.keys() & set(ADDRESSES) and (bound or fields[0] != "0"):
            severity, source = ("error" if bound else "warning"), _HOST_SOURCES[each.type]
            yield Finding(severity, each.name, each.type, f"{host} has no address", source)


def _delegations(view: ZoneView, each: RRset) -> Iterator[Finding]:
    """Name servers that nobody could reach, and what a delegation hides."""
    cut = view.cut(each.name)
    if each.type == "NS":
        for host in each.values:
            # Below another delegation its name servers know the address.
            if not inside(host, view.zone) or view.cut(host) not in ("", each.name):
                continue
            there = view.exactly(host) if view.cut(host) else view.at(host)
            if "CNAME" in there:
                sentence = f"{host} is an alias, and must be a host itself"
                yield Finding("error", each.name, "NS", sentence, "RFC 2181 10.3")
            elif not there.keys() & set(ADDRESSES):
                sentence = f"{host} is in this zone, which has no address of it: nobody can reach it"
                yield Finding("error", each.name, "NS", sentence, "RFC 1034 4.2.1")
    if each.type == "DS" and each.name == view.zone:
        yield Finding("error", each.name, "DS", "the DS of a zone is in its parent, not in itself", "RFC 4035 2.4")
    elif each.type == "DS" and "NS" not in view.exactly(each.name):
        yield Finding("error", each.name, "DS", "there is no delegation (NS) here", "RFC 4035 2.4")
    if cut and each.type not in DNSSEC and not (each.name == cut and each.type in ("NS", "DS")):
        glue = each.type in ADDRESSES and each.name in view.exactly(cut)["NS"].values
        if not glue:
            sentence = f"it is never answered: {cut} is delegated to {', '.join(view.exactly(cut)['NS'].values)}"
            yield Finding("warning", each.name, each.type, sentence, "RFC 1034 4.2.1")


def _nothing_beside(each: RRset) -> Iterator[Finding]:
    """Values that say there is nothing, or that the name is an alias, are alone."""
    if each.type == "MX" and len(each.values) > 1 and any(value.endswith(" .") for value in each.values):
        yield Finding("error", each.name, "MX", "one value says that there is no mail, others say where", "RFC 7505 3")
    if each.type in ("SVCB", "HTTPS"):
        alias = [value for value in each.values if value.startswith("0 ")]
        if alias and len(alias) < len(each.values):
            sentence = "priority 0 is an alias, beside which others are ignored"
            yield Finding("warning", each.name, each.type, sentence, "RFC 9460 2.4.1")


def _spf(view: ZoneView, rrsets: Sequence[RRset]) -> Iterator[Finding]:
    lookups = spf.Lookups(view)
    for name in dict.fromkeys(each.name for each in rrsets if each.type == "TXT"):
        found = spf.records(view, name)
        if len(found) > 1:
            sentence = f"there are {len(found)} SPF records, so that receivers take none"
            yield Finding("error", name, "TXT", sentence, "RFC 7208 4.5")
        elif found and (count := lookups.of(name)) > spf.MOST:
            sentence = f"its SPF needs {count} lookups or more, and receivers give up after {spf.MOST}"
            yield Finding("error", name, "TXT", sentence, "RFC 7208 4.6.4")
        for missing in dict.fromkeys(lookups.missing.get(name, ())):
            yield Finding("error", name, "TXT", f"its SPF includes {missing}, which has none", "RFC 7208 5.2")


def _policies(each: RRset) -> Iterator[Finding]:
    texts = [joined(value) for value in each.values]
    labels = each.name.split(".")
    if labels[0] == "_dmarc":
        policies = [text for text in texts if mail_policy.is_dmarc(text)]
        if len(policies) != 1:
            counted = (
                f"there are {len(policies)} DMARC policies" if policies else "there is no policy that begins v=DMARC1"
            )
            yield Finding("error", each.name, "TXT", f"{counted}, so that receivers take none", "RFC 7489 6.6.3")
        for fault in (fault for text in policies for fault in mail_policy.dmarc_faults(text)):
            yield Finding("error", each.name, "TXT", f"DMARC: {fault}", "RFC 7489 6.3")
    if "_domainkey" in labels[1:]:
        if len(texts) > 1:
            yield Finding(
                "error", each.name, "TXT", f"there are {len(texts)} DKIM keys by one name", "RFC 6376 3.6.2.2"
            )
        for fault in (fault for text in texts for fault in mail_policy.dkim_faults(text)):
            yield Finding("error", each.name, "TXT", f"DKIM: {fault}", "RFC 6376 3.6.1")


def _issuing(view: ZoneView, rrsets: Sequence[RRset], issuer: str, certificates: Sequence[str]) -> Iterator[Finding]:
    if not issuer:
        return
    owners = [each.name.removeprefix("*.") for each in rrsets if each.type == "CAA"]
    for name in certificates or [name for owner in owners for name in (owner, f"*.{owner}")]:
        counting = caa.relevant(view, name)
        reason = caa.forbidden(counting.values, issuer, name.startswith("*.")) if counting else ""
        if counting and reason:
            yield Finding("error", counting.name, "CAA", f"no certificate for {name}: {reason}", "RFC 8659 3")


def _dangling(severity: str, each: RRset, host: str) -> Finding:
    return Finding(severity, each.name, each.type, f"{host} is in this zone, and there is nothing", "RFC 1912 2.4")
