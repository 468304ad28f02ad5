"""PowerDNS' configuration, where it decides whether there is a name server at all."""

from __future__ import annotations

from serverflow_actions.dns._config import render


def test_an_address_that_is_gone_keeps_nobody_from_the_others() -> None:
    """As after a reboot, before a VPN is up: by itself PowerDNS would not start then."""
    lines = render("primary", ["10.0.0.4", "fd00::4"]).splitlines()
    assert "local-address=10.0.0.4, fd00::4" in lines
    assert "local-address-nonexist-fail=no" in lines
