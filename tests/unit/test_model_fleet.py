import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serverflow_cli.model.fleet import Fleet

EXAMPLE = tomllib.loads(Path(__file__).with_name("fleet.example.toml").read_text())


def test_the_example_says_what_it_says() -> None:
    fleet = Fleet.model_validate(EXAMPLE)
    assert list(fleet.servers) == ["web1", "db1"]
    assert (fleet.servers["web1"].port, fleet.servers["db1"].port) == (22, 2222)
    assert fleet.redis["cache"].max_memory == "256MiB"
    assert fleet.grants[0].expires and fleet.grants[0].expires.utcoffset() is not None
    assert fleet.dns.zones["acme.app"].records[0].values == ("10 mx.acme.app.",)
    ops = fleet.notify.channels["ops"]
    assert ops.provider == "slack" and ops.url.secret == "slack_ops"


def test_it_is_frozen() -> None:
    fleet = Fleet.model_validate(EXAMPLE)
    with pytest.raises(ValidationError):
        fleet.servers["web1"].host = "198.51.100.1"


def test_a_file_may_be_almost_empty() -> None:
    fleet = Fleet.model_validate({"schema": 1})
    assert not fleet.servers and fleet.timezone == "UTC" and not fleet.notify.channels and not fleet.dns.zones


@pytest.mark.parametrize(
    ("table", "name", "key", "value"),
    [
        ("servers", "web1", "host", "-oProxyCommand=id"),
        ("servers", "web1", "port", "22"),
        ("servers", "web1", "port", 0),
        ("servers", "web1", "port", True),
        ("servers", "web1", "jump", "serverflow@bastion"),
        ("servers", "web1", "roles", ["web"]),
        ("servers", "web1", "packages", ["htop; reboot"]),
        ("servers", "web1", "hostname", "web_1"),
        ("servers", "web1", "timezone", "../etc/passwd"),
        ("servers", "web1", "user", "root"),  # the login is always serverflow
        ("operators", "ana", "sign", "ssh-rsa " + "A" * 64),
        ("operators", "ana", "seal", "x25519:AAAA"),
        ("users", "deploy", "keys", ['command="id" ' + EXAMPLE["users"]["deploy"]["keys"][0]]),
        ("users", "deploy", "shell", "bash"),
        ("apps", "shop", "data", ["/srv/../etc"]),
        ("apps", "shop", "user", "-shop"),
        ("redis", "cache", "max_memory", 268435456),
        ("redis", "cache", "max_memory", "256"),
        ("redis", "cache", "on", "@nothing"),
        ("cron", "report", "schedule", "61 3 * * *"),
        ("cron", "report", "schedule", "@reboot"),
        ("cron", "report", "schedule", "5-1 3 * * *"),
        ("cron", "report", "timeout", "30"),
        ("cron", "report", "command", []),
        ("cron", "report", "command", ["a\nb"]),
        ("cron", "report", "command", ["bin/report", "|", "wc"]),
        ("cron", "report", "overlap", "allow"),
        ("cron", "report", "retries", 11),
        ("cron", "report", "catch_up", 1),
        ("cron", "report", "params", {"unit": 1.5}),
        ("cron", "report", "params", {"Unit": "x"}),
        ("routes", "shop", "to", {"app": "shop", "port": 1}),
    ],
)
def test_values_outside_their_grammar(table: str, name: str, key: str, value: Any) -> None:
    document = {**EXAMPLE, table: {**EXAMPLE[table], name: {**EXAMPLE[table][name], key: value}}}
    with pytest.raises(ValidationError) as caught:
        Fleet.model_validate(document)
    assert {error["loc"][:3] for error in caught.value.errors()} == {(table, name, key)}


@pytest.mark.parametrize("name", ["all", "local", "Web1", "web.1", "-x", ""])
def test_server_names_are_labels_that_selectors_can_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Fleet.model_validate({"schema": 1, "servers": {name: {"host": "203.0.113.7"}}})


@pytest.mark.parametrize("allow", ["*", "app.*", "service.restart", "service.re*"])
def test_grants_name_actions(allow: str) -> None:
    Fleet.model_validate({**EXAMPLE, "grants": [{"to": "ci", "allow": [allow], "on": "all"}]})


@pytest.mark.parametrize("allow", ["", "app", "app.", ".create", "*.create", "app.*.x", "App.x", "app.create\n"])
def test_grants_name_nothing_else(allow: str) -> None:
    with pytest.raises(ValidationError):
        Fleet.model_validate({**EXAMPLE, "grants": [{"to": "ci", "allow": [allow], "on": "all"}]})


def test_an_expiry_without_an_offset_is_refused() -> None:
    expires = tomllib.loads("at = 2027-02-20T00:00:00")["at"]
    with pytest.raises(ValidationError):
        Fleet.model_validate({**EXAMPLE, "grants": [{**EXAMPLE["grants"][0], "expires": expires}]})


@pytest.mark.parametrize("schedule", ["15 3 * * *", "*/5 * * * *", "0 9-17/2 1,15 * 1-5", "0 0 * * 7", "@daily"])
def test_schedules(schedule: str) -> None:
    report = {**EXAMPLE["cron"]["report"], "schedule": schedule}
    assert Fleet.model_validate({**EXAMPLE, "cron": {"report": report}}).cron["report"].schedule == schedule


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "does nothing: it needs app and command, or action"),
        ({"app": "shop"}, "command is missing"),
        ({"command": ["x"]}, "app is missing: a command runs as the user of an app, never as root"),
        ({"params": {"unit": "x"}}, "action is missing"),
        ({"app": "shop", "command": ["x"], "action": "service.restart"}, "both a command and an action"),
        ({"action": "service.restart", "memory": "1GiB"}, "an action brings its own limit"),
    ],
)
def test_a_job_is_a_command_or_an_action(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Fleet.model_validate({"schema": 1, "cron": {"x": {"on": "all", "schedule": "@daily", **keys}}})
