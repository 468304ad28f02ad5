"""PowerDNS on a server, as actions and the executor name its parts: files, database, API, and what a request may hold.

https://doc.powerdns.com/authoritative/: settings, and http-api for the paths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

UNIT = "pdns.service"
#: Read after pdns.conf, in the order of their names; a later setting replaces an earlier one.
FOLDER = "/etc/powerdns/pdns.d"
CONFIG = f"{FOLDER}/zz-serverflow.conf"
#: By itself, so that changes of all the rest may be shown.
API_CONFIG = f"{FOLDER}/zz-serverflow-api.conf"
DATA_FOLDER = "/var/lib/powerdns"
DATABASE = f"{DATA_FOLDER}/serverflow.sqlite3"
#: Below 1024 nobody without privileges can listen while PowerDNS is down, and be told the key (ip(7),
#: ip_unprivileged_port_start); below 512 no client of NFS does either (bindresvport(3)). Nobody else has this one.
API_ADDRESS, API_PORT = "127.0.0.1", 300

_API_KEY = re.compile(r"^api-key=([A-Za-z0-9_-]{20,})$", re.M)


class Call(NamedTuple):
    """A request to the API: the power that an action declares for it, and the keys that its body may have."""

    power: str
    method: str
    path: str
    body: frozenset[str] = frozenset()


_ZONE = frozenset(
    {
        "name", "kind", "masters", "nameservers", "catalog", "dnssec", "nsec3param", "soa_edit_api", "api_rectify",
        "master_tsig_key_ids", "slave_tsig_key_ids", "rrsets",
    }
)  # fmt: skip

#: `{zone}`, `{key}` and `{kind}` are checked before they are filled in: see remote/powerdns_api.py.
CALLS: Mapping[str, Call] = {
    "zone-make": Call("dns-zones", "POST", "/zones", _ZONE),
    "zone-set": Call("dns-zones", "PUT", "/zones/{zone}", _ZONE - {"name", "nameservers", "rrsets"}),
    "zone-remove": Call("dns-remove", "DELETE", "/zones/{zone}"),
    "metadata": Call("dns-zones", "PUT", "/zones/{zone}/metadata/{kind}", frozenset({"kind", "metadata"})),
    "retrieve": Call("dns-zones", "PUT", "/zones/{zone}/axfr-retrieve"),
    "records": Call("dns-records", "PATCH", "/zones/{zone}", frozenset({"rrsets"})),
    "notify": Call("dns-records", "PUT", "/zones/{zone}/notify"),
    "key-make": Call("dns-keys", "POST", "/tsigkeys", frozenset({"name", "algorithm", "key"})),
    "key-set": Call("dns-keys", "PUT", "/tsigkeys/{key}", frozenset({"algorithm", "key"})),
    "key-remove": Call("dns-remove", "DELETE", "/tsigkeys/{key}"),
}
POWERS = frozenset(call.power for call in CALLS.values())
#: Kinds of metadata that actions set; who may transfer goes with the zone itself.
METADATA = ("ALSO-NOTIFY", "ALLOW-DNSUPDATE-FROM", "TSIG-ALLOW-DNSUPDATE", "NOTIFY-DNSUPDATE", "SOA-EDIT-DNSUPDATE")


def api_key_in(text: str) -> str:
    """The key in the API's configuration file, "" when there is none."""
    found = _API_KEY.search(text)
    return found.group(1) if found else ""
