"""PowerDNS' database, made empty before PowerDNS first starts. Afterwards it alone writes there."""

from __future__ import annotations

from dataclasses import dataclass

from ..kit import Change, Host, HostError, Probe
from ..kit.change import differing
from ..kit.powerdns import DATABASE
from ..kit.undo import Footprint

_SCHEMA = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"
_MODE, _USER = 0o640, "pdns"


@dataclass(frozen=True)
class Database:
    """The file with the schema of the installed version. It holds the private keys of DNSSEC and all TSIG keys."""

    def check(self, probe: Probe) -> Change | None:
        found = probe.stat(DATABASE)
        before = {"mode": f"{found.mode:04o}", "owner": found.owner, "group": found.group} if found else {}
        fields = differing(before, {"mode": f"{_MODE:04o}", "owner": _USER, "group": _USER})
        return Change("update" if found else "create", "database", DATABASE, fields) if fields else None

    def apply(self, host: Host) -> None:
        if host.stat(DATABASE):
            return host.own(DATABASE, _MODE, _USER, _USER)
        schema = host.read(_SCHEMA)
        if schema is None:
            raise HostError(f"{_SCHEMA} is missing: the package pdns-backend-sqlite3 is damaged")
        return host.write(DATABASE, host.new_database(schema.decode()), _MODE, _USER, _USER)

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=(DATABASE,))
