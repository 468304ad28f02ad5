"""All records of a zone, from its database."""

from __future__ import annotations

import json
from typing import Any

from ..kit import Params, Probe, Refused, action, param
from ..kit.powerdns import DATA_FOLDER
from ._ds import ds_of
from ._rows import Found, records, zone
from ._shared import ZONE

#: Bytes of rrsets as JSON in one answer; frames end at 1 MiB.
_PAGE = 500_000


@action(
    "dns.fetch",
    "Read all records of a zone but what PowerDNS makes itself",
    kind="read",
    reads=(DATA_FOLDER,),
    params=[
        ZONE,
        param("offset", "integer", "Where to go on: `next` of the answer before", default=0),
        param("ds", "boolean", "With the DS records that the parent of a signed zone has to publish", default=False),
    ],
)
def fetch(params: Params, probe: Probe) -> dict[str, Any]:
    found = zone(probe, params.zone)
    if not found:
        raise Refused(f"there is no zone {params.zone} here", "no-zone")
    now = records(probe, found)
    rrsets, size = [], 0
    for each in list(now.rrsets.values())[params.offset :]:
        rrsets.append(_shown(each))
        size += len(json.dumps(rrsets[-1]))
        if size > _PAGE:
            break
    end = params.offset + len(rrsets)
    answer = {
        "zone": found.name,
        "kind": found.kind,
        "serial": found.serial,
        "nameservers": found.nameservers,
        "revision": now.revision,
        "rrsets": rrsets,
        "next": end if end < len(now.rrsets) else 0,
    }
    if params.ds:
        answer["ds"] = ds_of(probe, found.name) if found.signed else []
    return answer


def _shown(found: Found) -> dict[str, Any]:
    return {**found._asdict(), "values": list(found.values), "comments": list(found.comments)}
