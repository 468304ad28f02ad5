"""PowerDNS' configuration, and what of it decides what a server can do.

https://doc.powerdns.com/authoritative/settings.html and backends/generic-sqlite3.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..kit import Probe, Refused
from ..kit.powerdns import API_ADDRESS, API_PORT, CONFIG, DATABASE

#: Catalog zones, and zones made through the API answer at once.
OLDEST = (4, 7)
ROLES = ("primary", "secondary", "both")
#: Seconds until a change that no NOTIFY told of is seen: PowerDNS looks at its zones so often.
_CYCLE_S = 10

_HEAD = "# Written by ServerFlow (dns.server): changes by hand are undone.\n"

#: Members of a catalog zone are transferred with the key of the catalog: PowerDNS makes them without one (RFC 9432,
#: section 7, leaves it to the implementation). The second half of the query is ours.
_METADATA_QUERY = (
    "select content from domains, domainmetadata"
    " where domainmetadata.domain_id=domains.id and name=:domain and domainmetadata.kind=:kind"
    " union select content from domains member join domains catalog on catalog.name=member.catalog"
    " join domainmetadata on domainmetadata.domain_id=catalog.id"
    " where member.name=:domain and :kind='AXFR-MASTER-TSIG' and domainmetadata.kind=:kind"
)

#: Settings of Debian's bind backend (its bind.conf stays): without the backend PowerDNS would not start for them.
_UNKNOWN = (
    "bind-config", "bind-check-interval", "bind-supermasters", "bind-supermaster-config", "bind-supermaster-destdir",
    "bind-autoprimaries", "bind-autoprimary-config", "bind-autoprimary-destdir", "bind-dnssec-db",
    "bind-dnssec-db-journal-mode", "bind-hybrid", "bind-ignore-broken-records",
)  # fmt: skip
_ROLE = re.compile(r"^(primary|secondary)=yes$", re.M)


def render(role: str, listen: Sequence[str]) -> str:
    """Everything but the API's key."""
    return (
        f"{_HEAD}"
        "launch=gsqlite3\n"
        f"ignore-unknown-settings={', '.join(_UNKNOWN)}\n"
        f"gsqlite3-database={DATABASE}\n"
        "gsqlite3-dnssec=yes\n"
        "# With a write-ahead log nobody could read who may not write.\n"
        "gsqlite3-pragma-journal-mode=DELETE\n"
        "gsqlite3-pragma-foreign-keys=yes\n"
        f"gsqlite3-get-domain-metadata-query={_METADATA_QUERY}\n"
        f"local-address={', '.join(listen)}\n"
        "# An address that is gone, or not there yet at boot, is no reason to answer at none.\n"
        "local-address-nonexist-fail=no\n"
        "# Whole answers are not kept: with an alias they have records of other zones, whose changes do not end them.\n"
        "cache-ttl=0\n"
        "\n"
        f"primary={_yes(role != 'secondary')}\n"
        f"secondary={_yes(role != 'primary')}\n"
        f"xfr-cycle-interval={_CYCLE_S}\n"
        "# Transfers and updates by the keys that a zone names, from nobody else.\n"
        "allow-axfr-ips=\n"
        "dnsupdate=yes\n"
        "allow-dnsupdate-from=\n"
        "default-soa-content=ns1.@ hostmaster.@ 0 1800 300 1209600 300\n"
        "default-ksk-algorithm=ecdsa256\n"
        "default-zsk-algorithm=\n"
        "# Signatures change by themselves, and secondaries have to fetch them.\n"
        "default-soa-edit-signed=INCEPTION-INCREMENT\n"
        "\n"
        "version-string=anonymous\n"
        "server-id=disabled\n"
        "security-poll-suffix=\n"
    )


def render_api(key: str) -> str:
    """The API, for this machine alone."""
    return (
        f"{_HEAD}"
        "webserver=yes\n"
        f"webserver-address={API_ADDRESS}\n"
        f"webserver-port={API_PORT}\n"
        f"webserver-allow-from={API_ADDRESS}\n"
        "webserver-loglevel=none\n"
        "webserver-max-bodysize=8\n"
        "api=yes\n"
        f"api-key={key}\n"
    )


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def roles(probe: Probe) -> list[str]:
    """What this server is set up as. Raises Refused when it is nothing of ours."""
    text = (probe.read(CONFIG) or b"").decode("utf-8", "replace")
    if not text.startswith(_HEAD):
        raise Refused("PowerDNS is not set up here: dns.server does that first")
    return _ROLE.findall(text)


def refuse_old(version: str) -> None:
    """Raises Refused. `version` is the package's."""
    found = re.match(r"([0-9]+)\.([0-9]+)", version)
    if found and (int(found.group(1)), int(found.group(2))) < OLDEST:
        raise Refused(
            f"PowerDNS {version} is too old: {'.'.join(map(str, OLDEST))} is the first with catalog zones",
            "unsupported",
        )


def addresses(probe: Probe, listen: Sequence[str]) -> list[str]:
    """Where it listens: of IPv4 and of IPv6 the public addresses, without one all others, as behind a router. Never all
    of them by `0.0.0.0`: port 53 of 127.0.0.53 belongs to systemd-resolved(8). Raises Refused.
    """
    from ipaddress import ip_address

    own = probe.addresses()
    strange = [each for each in listen if each not in own and not ip_address(each).is_loopback]
    if strange:
        raise Refused(f"this server has no address {', '.join(strange)}: it has {', '.join(own) or 'none'}")
    if listen:
        return sorted(set(listen), key=lambda each: (":" in each, each))
    if not own:
        raise Refused("this server has no address that others could reach")
    found = []
    for is_ipv6 in (False, True):
        family = [each for each in own if (":" in each) is is_ipv6]
        found += [each for each in family if ip_address(each).is_global] or family
    return found
