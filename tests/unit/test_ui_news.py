"""What is news to whoever has just asked for a change."""

from __future__ import annotations

from typing import Any

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.errors import ActionFailed
from serverflow_cli.model.result import Reply, ServerResult
from serverflow_cli.ui.news import shown_in, without_details, without_known

#: As remote/certcore.py tells of one that was just issued.
ISSUED: dict[str, Any] = {
    "ari": "the authority does not offer it", "attempted_at": 1795431544000, "directory": "https://acme.example/dir",
    "explanation": "", "failures": 0, "fingerprint": "24" * 32, "installed_at": 1795431545000, "issuer": "CN=X",
    "name": "www", "names": ["www.acme.app"], "next": 1900608551000, "not_after": 1953197350000,
    "not_before": 1795430951000, "not_served": "", "path": "/etc/serverflow/certs/www", "problem": "", "rehearsal": "",
    "rehearsed_at": 0, "retry_at": 0, "revoked": "", "said": "", "serial": "431b", "served": True, "why": "third",
    "window": [0, 0],
}  # fmt: skip


def news(data: dict[str, Any], *notes: str) -> dict[str, Any]:
    """What is left of the data."""
    reply = without_known(ServerResult("web1", Reply("", "done", data=data, notes=notes))).reply
    assert reply
    return dict(reply.data)


def test_of_a_certificate_until_when_it_counts_and_where_it_is() -> None:
    found = news(ISSUED)
    assert found == {
        "certificate": "www",
        "ends_at": 1953197350000,
        "renews_at": 1900608551000,
        "served": True,
        "path": "/etc/serverflow/certs/www",
    }
    assert next(iter(found)) == "certificate"


def test_what_is_wrong_with_a_certificate_is_told() -> None:
    wrong = {"served": False, "not_served": "www:443 shows another", "said": "refused", "retry_at": 1795431999000}
    found = news({**ISSUED, **wrong})
    assert {key: found.get(key) for key in wrong} == {**wrong, "served": None}


def test_of_a_certificate_that_nobody_has_looked_for_it_is_not_said_that_it_is_not_served() -> None:
    assert "served" not in news({**ISSUED, "served": False})


@pytest.mark.parametrize(
    ("data", "left"),
    [
        ({"kind": "consumer", "serial": 0, "zone": "catalog-powerdns.invalid."}, {}),
        ({"zone": "acme.app.", "kind": "primary", "serial": 7, "ds": ["1 13 2 AB"]}, {"ds": ["1 13 2 AB"]}),
        ({"certificate": "www", "names": ["www.acme.app"]}, {}),
        ({"job": "x", "enabled": True, "server_timezone": "UTC", "damaged": ["y"]},
         {"server_timezone": "UTC", "damaged": ["y"]}),
        ({"hosts": ["a.acme.app"], "https": False, "warnings": []}, {"https": False}),
        ({"unit": "redis-server@cache", "host": "127.0.0.1", "port": 6379},
         {"unit": "redis-server@cache", "host": "127.0.0.1", "port": 6379}),
        ({"versions": {"jq": "1.7"}}, {"versions": {"jq": "1.7"}}),
        ({"packages": {}, "reboot_required": False}, {"reboot_required": False}),
        ({"op": "01J", "problems": []}, {"op": "01J"}),
        ({"name": "report", "run": "01J"}, {"name": "report", "run": "01J"}),
    ],
)  # fmt: skip
def test_what_was_asked_for_and_what_is_empty_is_no_news(data: dict[str, Any], left: dict[str, Any]) -> None:
    assert news(data) == left


def test_a_warning_is_told_once() -> None:
    data = {"warnings": ["nobody listens", "/srv/a is closed"]}
    assert news(data) == data
    assert news(data, "route.www: nobody listens") == {"warnings": ["/srv/a is closed"]}
    assert news(data, "route.www: nobody listens", "route.www: /srv/a is closed") == {}


def test_only_what_was_shown_loses_its_details() -> None:
    before = Change("create", "file", "/etc/crontab", diff="+a\n")
    then = Change("update", "file", "/etc/crontab", {"mode": ("1", "2")}, diff="+b\n", note="n")
    other = Change("update", "file", "/etc/other", diff="+c\n")
    shown = shown_in([ServerResult("web1", Reply("", "done", (before,))), ServerResult("db1", error=ActionFailed("x"))])
    done = without_details(ServerResult("web1", Reply("", "done", (then, other))), shown)
    assert done.reply and done.reply.changes == (Change("update", "file", "/etc/crontab", note="n"), other)
    elsewhere = ServerResult("web2", Reply("", "done", (then,)))
    assert without_details(elsewhere, shown) == elsewhere
