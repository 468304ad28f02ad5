"""`sf firewall`: what a line says, and what becomes of fleet.toml."""

from __future__ import annotations

import pytest

from serverflow_actions import registry
from serverflow_cli.cli.firewall import rules_of
from serverflow_cli.cli.generated import value_of
from serverflow_cli.config.load import parse
from serverflow_cli.errors import ConfigError, UsageError


@pytest.mark.parametrize(
    "line",
    [
        ["80/tcp", "5432/tcp from 10.0.0.0/8", "53/udp"],
        ["80/tcp", "5432/tcp", "from", "10.1.2.3/8", "53/udp"],
        ["80/tcp 5432/tcp from 10.0.0.0/8 53/udp"],
    ],
)
def test_rules_need_no_quotes(line: list[str]) -> None:
    assert rules_of(line) == ["80/tcp", "5432/tcp from 10.0.0.0/8", "53/udp"]


@pytest.mark.parametrize("line", [["from"], ["80/tcp", "from"], ["80/tcp", "from", "10.0.0.1", "from", "::1"], [""]])
def test_what_is_no_rule(line: list[str]) -> None:
    with pytest.raises(UsageError, match="is not a firewall rule"):
        rules_of(line)


def test_a_list_of_ports_travels_as_texts() -> None:
    (ports,) = (p for p in registry.load("firewall.set").params if p.name == "ssh-ports")
    assert value_of(ports, ["22", "2222"]) == ["22", "2222"]


def test_a_rule_has_one_spelling_in_the_file() -> None:
    with pytest.raises(ConfigError, match=r"is written 80/tcp from 10\.0\.0\.0/8"):
        parse('schema = 1\n[servers.web1]\nhost = "a"\n[firewall.x]\non = "web1"\nallow = ["80/tcp from 10.1.1.1/8"]\n')
