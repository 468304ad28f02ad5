"""Change: what one step would do, or did. Every plan, receipt and drift report is a list of these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

#: A value before and after; `None` means absent. Secret values never get here: steps put a placeholder.
Fields = Mapping[str, tuple[Any, Any]]


class Change(NamedTuple):
    """One resource that is not as it should be.

    `verb` is create, update, delete or run; `kind` is the step's noun (`file`, `package`, `unit`); `name` identifies
    the resource on its server; `fields` shows what differs; `diff` is a unified diff for people and is not hashed.
    """

    verb: str
    kind: str
    name: str
    fields: Fields = MappingProxyType({})
    diff: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The form in receipts and in `--json`."""
        out: dict[str, Any] = {"verb": self.verb, "kind": self.kind, "name": self.name}
        if self.fields:
            out["fields"] = {key: list(pair) for key, pair in sorted(self.fields.items())}
        if self.diff:
            out["diff"] = self.diff
        if self.note:
            out["note"] = self.note
        return out


def from_json(value: dict[str, Any]) -> Change:
    """The change that `as_json` wrote."""
    fields = {key: (pair[0], pair[1]) for key, pair in value.get("fields", {}).items()}
    return Change(value["verb"], value["kind"], value["name"], fields, value.get("diff", ""), value.get("note", ""))


def forecast_hash(action: str, changes: list[Change]) -> str:
    """SHA-256 over what a plan would do. The hash of the plan that a person approved travels in the signed command."""
    plain = [[c.verb, c.kind, c.name, sorted((k, list(v)) for k, v in c.fields.items())] for c in changes]
    return hashlib.sha256(json.dumps([action, plain], separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()


def differing(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]] | None:
    """The fields of `after` that `before` does not already have; None when there are none."""
    fields = {key: (before.get(key), value) for key, value in after.items() if before.get(key) != value}
    return fields or None
