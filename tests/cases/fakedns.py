"""PowerDNS in memory: a database that is kept as SQL text, and what each request to the API does to it.

Standard library only, Python >= 3.9. Only what actions rely on is here; that the real one does the same is shown by
tests/targets/test_area_dns.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serverflow_actions.kit.powerdns import CALLS, METADATA
from serverflow_actions.kit.probe import HostError

#: The columns of PowerDNS' schema that actions read.
SCHEMA = """
create table domains (id integer primary key, name text, master text, last_check int, type text, catalog text);
create table records (id integer primary key, domain_id int, name text, type text, content text, ttl int, prio int,
  disabled int default 0);
create table comments (id integer primary key, domain_id int, name text, type text, comment text);
create table domainmetadata (id integer primary key, domain_id int, kind text, content text);
create table cryptokeys (id integer primary key, domain_id int, active int);
create table tsigkeys (id integer primary key, name text, algorithm text, secret text);
"""
_TABLES = "records", "comments", "domainmetadata", "cryptokeys"


def database(sql: str) -> str:
    """What the script makes, in one spelling."""
    return "\n".join(_opened(sql).iterdump()) + "\n"


def rows(text: str, queries: Iterable[tuple[str, Sequence[Any]]]) -> list[list[Sequence[Any]]]:
    connection = _opened(text)
    return [connection.execute(sql, tuple(values)).fetchall() for sql, values in queries]


def _opened(text: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(text)
    return connection


def requested(text: str, call: str, body: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The database after a request. Raises HostError as the broker does, and then nothing has changed."""
    if set(body) - CALLS[call].body:
        raise HostError(f"{call} has no {sorted(set(body) - CALLS[call].body)}")
    api = _Api(_opened(text))
    if call in ("notify", "retrieve"):
        api.id_of(names["zone"])
    else:
        getattr(api, call.replace("-", "_"))(dict(body), **names)
    return "\n".join(api.connection.iterdump()) + "\n"


class _Api:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def _do(self, sql: str, *values: Any) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    def id_of(self, zone: str) -> int:
        found = self._do("select id from domains where name = ?", zone.rstrip("."))
        if not found:
            raise HostError("PowerDNS: Not Found (HTTP 404)")
        return int(found[0][0])

    def zone_make(self, body: dict[str, Any]) -> None:
        name = body["name"].rstrip(".")
        if self._do("select 1 from domains where name = ?", name):
            raise HostError(f"PowerDNS: Domain '{body['name']}' already exists (HTTP 409)")
        self._do("insert into domains (name, master, type) values (?, '', '')", name)
        body.setdefault("soa_edit_api", "DEFAULT")
        self.zone_set(body, zone=body["name"])
        rrsets = body.get("rrsets", [])
        if body["nameservers"]:
            records = [{"content": each} for each in body["nameservers"]]
            rrsets = [*rrsets, {"name": body["name"], "type": "NS", "ttl": 3600, "records": records}]
        if body["kind"] in ("Master", "Producer") and "SOA" not in [each["type"] for each in rrsets]:
            records = [{"content": f"ns1.{name} hostmaster.{name} 0 1 1 1 1"}]
            rrsets = [*rrsets, {"name": body["name"], "type": "SOA", "ttl": 3600, "records": records}]
        self.records({"rrsets": [{**each, "changetype": "REPLACE"} for each in rrsets]}, zone=body["name"])

    def zone_set(self, body: dict[str, Any], zone: str) -> None:
        number = self.id_of(zone)
        self._do("update domains set type = ? where id = ?", body["kind"].upper(), number)
        self._do("update domains set master = ? where id = ?", ",".join(body.get("masters", [])), number)
        if "catalog" in body:
            self._do("update domains set catalog = ? where id = ?", body["catalog"].rstrip("."), number)
        for key, kind in ("master_tsig_key_ids", "TSIG-ALLOW-AXFR"), ("slave_tsig_key_ids", "AXFR-MASTER-TSIG"):
            if key in body:
                self._replace(number, kind, body[key])
        if "soa_edit_api" in body:
            self._replace(number, "SOA-EDIT-API", [body["soa_edit_api"]])
        if "nsec3param" in body:
            self._replace(number, "NSEC3PARAM", [body["nsec3param"]] if body["nsec3param"] else [])
        if body.get("dnssec"):
            self._do("insert into cryptokeys (domain_id, active) values (?, 1)", number)
        elif "dnssec" in body:
            self._do("delete from cryptokeys where domain_id = ?", number)

    def zone_remove(self, _: dict[str, Any], zone: str) -> None:
        number = self.id_of(zone)
        for table in _TABLES:
            self._do(f"delete from {table} where domain_id = ?", number)
        self._do("delete from domains where id = ?", number)

    def metadata(self, body: dict[str, Any], zone: str, kind: str) -> None:
        assert kind == body["kind"] and kind in METADATA
        self._replace(self.id_of(zone), kind, body["metadata"])

    def _replace(self, number: int, kind: str, values: Iterable[str]) -> None:
        self._do("delete from domainmetadata where domain_id = ? and kind = ?", number, kind)
        for value in values:
            self._do("insert into domainmetadata (domain_id, kind, content) values (?, ?, ?)", number, kind, value)

    def records(self, body: dict[str, Any], zone: str) -> None:
        number = self.id_of(zone)
        for rrset in body["rrsets"]:
            name, type_ = rrset["name"].rstrip("."), rrset["type"]
            self._do("delete from records where domain_id = ? and name = ? and type = ?", number, name, type_)
            self._do("delete from comments where domain_id = ? and name = ? and type = ?", number, name, type_)
            if rrset["changetype"] == "DELETE":
                continue
            others = [each for (each,) in self._do("select type from records where name = ?", name)]
            if (type_ == "CNAME" and others) or "CNAME" in others:
                raise HostError(
                    f"PowerDNS: RRset {rrset['name']} IN {type_}: Conflicts with pre-existing RRset (HTTP 422)"
                )
            for record in rrset["records"]:
                content, prio = _stored(type_, record["content"])
                self._do(
                    "insert into records (domain_id, name, type, content, ttl, prio) values (?, ?, ?, ?, ?, ?)",
                    number, name, type_, content, rrset["ttl"], prio,
                )  # fmt: skip
            for comment in rrset.get("comments", []):
                sql = "insert into comments (domain_id, name, type, comment) values (?, ?, ?, ?)"
                self._do(sql, number, name, type_, comment["content"])

    def key_make(self, body: dict[str, Any]) -> None:
        sql = "insert into tsigkeys (name, algorithm, secret) values (?, ?, ?)"
        self._do(sql, body["name"].rstrip("."), body["algorithm"], body["key"])

    def key_set(self, body: dict[str, Any], key: str) -> None:
        sql = "update tsigkeys set algorithm = ?, secret = ? where name = ?"
        self._do(sql, body["algorithm"], body["key"], key.rstrip("."))

    def key_remove(self, _: dict[str, Any], key: str) -> None:
        self._do("delete from tsigkeys where name = ?", key.rstrip("."))


def _stored(type: str, content: str) -> tuple[str, int]:
    """As PowerDNS stores it: names without final dots, the first number of MX and SRV by itself."""
    if type in ("MX", "SRV"):
        number, _, rest = content.partition(" ")
        return rest.rstrip("."), int(number)
    if type in ("NS", "CNAME", "PTR", "SOA"):
        return " ".join(word.rstrip(".") for word in content.split()), 0
    return content, 0
