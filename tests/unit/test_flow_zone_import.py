"""`sf dns zone import` of a zone with more in it than fleet.toml can have; records that follow from the file."""

from __future__ import annotations

import asyncio

import pytest

from serverflow_actions.kit.rrset import RRset
from serverflow_cli.errors import UsageError
from serverflow_cli.flows import records
from serverflow_cli.flows.zone_import import import_zone
from serverflow_cli.flows.zones import Wish
from serverflow_cli.model.zone import Served

from .test_flow_routes import Fleet, how
from .test_flow_routes import fleet as fleet  # the fixture

ZONE = "acme.app"


def test_what_the_file_cannot_have_is_left_out_and_told(fleet: Fleet) -> None:
    rrsets = (
        RRset("acme.app.", "NS", 300, ("ns1.acme.app.",)),
        RRset("_acme-challenge.www.acme.app.", "TXT", 60, ('"token"',)),
        RRset("acme.app.", "LOC", 300, ("51 30 12.748 N 0 7 39.611 W 0.00m",)),
        RRset("0/25.acme.app.", "PTR", 300, ("host.acme.app.",)),
        RRset("www.acme.app.", "A", 300, ("192.0.2.1",)),
    )
    fleet.zones.state = fleet.zones.state._replace(rrsets=tuple(map(Served, rrsets)))
    done = asyncio.run(import_zone(fleet, "ACME.app.", None, how()))
    (record,) = fleet.fleet.dns.zones[ZONE].records
    assert (record.name, record.type, record.values) == ("www", "A", ("192.0.2.1",))
    assert [note.split(" is left out")[0] for note in done.notes if "left out" in note] == [
        "acme.app. LOC",
        "0/25.acme.app. PTR",
    ]


def test_a_record_that_follows_from_a_server_is_none_to_remove(fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="it follows from servers"):
        asyncio.run(records.remove(fleet, f"web1.{ZONE}", "A", [], Wish(), how()))
