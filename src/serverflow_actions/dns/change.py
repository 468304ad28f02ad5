"""Change records of a zone."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from . import _records
from ._rows import records, zone
from ._shared import ZONE


@action(
    "dns.change",
    "Change records of a zone, all at once, if nobody else has changed it since",
    kind="change",
    timeout=120,
    host_verbs=("dns-records",),
    blobs=_records.LIMIT,
    params=[
        ZONE,
        param("revision", "sha256", "What dns.fetch said when the change was planned"),
        param("changes", "document", "JSON list of rrsets as they are wanted; one without values goes", default=""),
        param("content", "sha256", "SHA-256 of such a list that comes as a blob, for many of them", default=""),
    ],
)
def change(params: Params, probe: Probe) -> Steps:
    if bool(params.changes) == bool(params.content):
        raise Refused("either changes or content")
    text = params.changes or probe.blob(params.content).decode("utf-8", "replace")
    wanted = _records.read(text, params.zone)
    found = zone(probe, params.zone)
    if not found:
        raise Refused(f"there is no zone {params.zone} here", "no-zone")
    if found.kind != "primary":
        raise Refused(f"{params.zone} is a {found.kind} zone here: its records are changed elsewhere")
    yield _records.ZoneRecords(found, params.revision, wanted)
    now = zone(probe, params.zone)
    return {"revision": records(probe, found).revision, "serial": now.serial if now else 0}
