"""A zone as Cloudflare keeps it: single records with ids, and the rules that it checks on each change."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.rdata

Record = dict[str, Any]

#: Which parts of `data` make the content, in the order of the presentation format.
DATA = {
    "SRV": ["priority", "weight", "port", "target"],
    "CAA": ["flags", "tag", "value"],
    "TLSA": ["usage", "selector", "matching_type", "certificate"],
    "SSHFP": ["algorithm", "type", "fingerprint"],
    "DS": ["key_tag", "algorithm", "digest_type", "digest"],
    "SVCB": ["priority", "target", "value"],
    "HTTPS": ["priority", "target", "value"],
}
ADDRESSES = {"A", "AAAA", "CNAME"}


class Refused(Exception):
    """What Cloudflare answers instead: its code, its words and where in the batch."""

    def __init__(self, code: int, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer


class FakeZone:
    """The records of one zone, by id."""

    def __init__(self, name: str, account: dict[str, str], plan: str = "free", status: str = "active") -> None:
        self.id = uuid.uuid4().hex
        self.name = name
        self.account = account
        self.plan = plan
        self.status = status
        self.name_servers = ["ada.ns.cloudflare.test", "bob.ns.cloudflare.test"]
        self.records: dict[str, Record] = {}
        self.dnssec: dict[str, Any] = {"status": "disabled"}
        #: In this order, whatever the order in a batch is.
        self._steps: list[tuple[str, Callable[[Record], Record]]] = [
            ("deletes", self._delete),
            ("patches", self._patch),
            ("posts", self.post),
        ]

    def shown(self) -> dict[str, Any]:
        """The zone as /zones gives it."""
        return {
            "id": self.id,
            "name": self.name,
            "account": self.account,
            "plan": {"id": uuid.uuid4().hex, "name": "Website", "legacy_id": self.plan},
            "status": self.status,
            "type": "full",
            "paused": False,
            "name_servers": self.name_servers,
            "original_name_servers": None,
            "activated_on": None,
            "created_on": _NOW,
            "modified_on": _NOW,
            "development_mode": 0,
            "meta": {},
            "owner": {"id": None, "type": "user", "email": None},
            "permissions": [],
        }

    def batch(self, body: dict[str, list[Record]]) -> dict[str, list[Record]]:
        """All of it or, raising Refused, nothing."""
        before = copy.deepcopy(self.records)
        done: dict[str, list[Record]] = {}
        try:
            for kind, do in self._steps:
                for index, item in enumerate(body.get(kind, [])):
                    try:
                        done.setdefault(kind, []).append(do(item))
                    except Refused as refused:
                        raise Refused(refused.code, refused.message, f"/{kind}/{index}") from None
        except Refused:
            self.records = before
            raise
        return done

    def post(self, new: Record, meta: dict[str, Any] | None = None) -> Record:
        """One more record. `meta` as Cloudflare's features set it."""
        record = {"id": uuid.uuid4().hex, "created_on": _NOW, "meta": meta or {}, "settings": {}, "tags": []}
        return self._put({**record, "proxied": False, **new})

    def _delete(self, item: Record) -> Record:
        record = self._changeable(item["id"])
        del self.records[record["id"]]
        return record

    def _patch(self, item: Record) -> Record:
        return self._put({**self._changeable(item["id"]), **item})

    def _changeable(self, record_id: str) -> Record:
        if record_id not in self.records:
            raise Refused(81044, "Record does not exist.")
        record = self.records[record_id]
        if record["meta"].get("read_only"):
            raise Refused(1043, "This record is managed by a feature and is read only.")
        return record

    def _put(self, record: Record) -> Record:
        record["name"] = record["name"].lower()
        record["modified_on"] = _NOW
        record["comment"] = record.get("comment") or None
        record["proxiable"] = record["type"] in ADDRESSES
        if record["name"] != self.name and not record["name"].endswith("." + self.name):
            raise Refused(9000, f"DNS name is invalid: it is not in {self.name}.")
        if record["ttl"] != 1 and not 60 <= record["ttl"] <= 86400:
            raise Refused(9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
        if record["proxied"] and not record["proxiable"]:
            raise Refused(9004, "This record type cannot be proxied.")
        record["ttl"] = 1 if record["proxied"] else record["ttl"]
        record["content"] = _content(record)
        self._beside(record)
        self.records[record["id"]] = record
        return record

    def _beside(self, record: Record) -> None:
        for other in self.records.values():
            if other["id"] == record["id"] or other["name"] != record["name"]:
                continue
            kinds = {other["type"], record["type"]}
            if "CNAME" in kinds and kinds <= ADDRESSES:
                raise Refused(81053, "An A, AAAA, or CNAME record with that host already exists.")
            same = (other["type"], other["content"], other.get("priority"))
            if same == (record["type"], record["content"], record.get("priority")):
                raise Refused(81058, "An identical record already exists.")


_NOW = "2026-01-02T03:04:05.678901Z"


def _content(record: Record) -> str:
    """As Cloudflare gives it: names without the final dot, SVCB's values quoted. Checked by another reader of DNS."""
    kind = record["type"]
    if kind in DATA:
        data = record["data"]
        if kind in ("SVCB", "HTTPS"):
            data["value"] = " ".join(_quoted(part) for part in str(data["value"]).split())
        parts = [str(data[part]) for part in DATA[kind]]
        if kind == "CAA":
            parts[-1] = '"' + parts[-1].replace("\\", "\\\\").replace('"', '\\"') + '"'
        content = " ".join(parts)
    else:
        content = str(record["content"])
    text = f"{record['priority']} {content}" if kind == "MX" else content
    try:
        dns.rdata.from_text("IN", kind, text, relativize=False)
    except (dns.exception.DNSException, ValueError):
        raise Refused(9005, f"Content for {kind} record is invalid.") from None
    return content


def _quoted(part: str) -> str:
    key, sign, value = part.partition("=")
    return part if not sign or value.startswith('"') else f'{key}="{value}"'
