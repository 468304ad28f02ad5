import hashlib
from pathlib import Path

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.spec import parse as parse_params
from serverflow_cli.config.load import parse
from serverflow_cli.plan.conflicts import PlanError
from serverflow_cli.plan.desired import file_key, not_planned, resources
from serverflow_cli.plan.resource import Resource, resource_hash

EXAMPLE = Path(__file__).with_name("fleet.example.toml").read_text()
DEPLOY_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILe9VcEbeBsMzEOqblf52t8GYOnR1OJ+CXnuQ6QH1FSu deploy@ci"
HEAD = """
schema = 1
[servers.web1]
host = "203.0.113.7"
roles = ["app"]
[servers.web2]
host = "web2.acme.app"
roles = ["app"]
[servers.db1]
host = "10.0.0.8"
"""


def planned(text: str) -> list[Resource]:
    return resources(parse(HEAD + text))


def test_the_example_as_resources() -> None:
    redis = {"name": "cache", "max-memory": "256MiB"}
    assert resources(parse(EXAMPLE)) == [
        Resource("web1", "package.all", "package.install", {"names": ["htop"]}, "servers"),
        Resource(
            "web1",
            "user.deploy",
            "user.create",
            {"name": "deploy", "key": [DEPLOY_KEY], "groups": ["www-data"]},
            "users",
        ),
        Resource(
            "web1",
            "firewall.all",
            "firewall.set",
            {
                "allow": ["8080/tcp from 10.0.0.0/8", "80/tcp", "443/tcp", "443/udp"],
                "deny": ["443/tcp from 198.51.100.0/24"],
                "ssh-ports": ["22"],
            },
            "firewall",
        ),
        Resource(
            "web1",
            "app.shop",
            "app.create",
            {"name": "shop", "user": "shop", "data": ["/srv/shop/data"], "port": 3000},
            "apps",
        ),
        Resource("db1", "redis.cache", "redis.create", redis, "redis"),
    ]


def test_what_cannot_be_applied_yet_is_said() -> None:
    areas = "cron.report notify.channels.ops notify.routes[0] dns.providers.cf dns.zones.acme.app routes.shop"
    assert not_planned(parse(EXAMPLE)) == ["redis.cache.allow_from", *areas.split(), "operators.ana", "grants[0]"]
    assert not_planned(parse(HEAD + 'hostname = "db1"\ntimezone = "UTC"\n')) == [
        "servers.db1.timezone",
        "servers.db1.hostname",
    ]


def test_the_order_is_that_of_dependencies_then_of_the_file() -> None:
    text = """
packages = ["vim"]
[redis.r]
on = "db1"
max_memory = "1GiB"
[apps.b]
on = "web*"
user = "b"
[apps.a]
on = "web1"
user = "a"
[users.u]
on = "all"
"""
    assert [(resource.server, resource.key) for resource in planned(text)] == [
        ("db1", "package.all"),
        ("web1", "user.u"),
        ("web2", "user.u"),
        ("db1", "user.u"),
        ("web1", "app.b"),
        ("web2", "app.b"),
        ("web1", "app.a"),
        ("db1", "redis.r"),
    ]


def test_keys_that_the_file_leaves_out_are_left_to_the_action() -> None:
    (app,) = planned('[apps.a]\non = "web1"\n')
    assert app.params == {"name": "a"}


def test_every_resource_is_what_its_action_takes() -> None:
    everything = """
[users.u]
on = "all"
keys = []
groups = ["www-data"]
shell = "/bin/bash"
comment = "U. Ser"
allow_root_groups = true
[apps.a]
on = "web1"
user = "a"
data = ["/srv/a"]
port = 3000
[redis.r]
on = "db1"
port = 6380
listen = ["10.0.0.8"]
max_memory = "1GiB"
maxmemory_policy = "allkeys-lru"
persistence = "aof"
"""
    for resource in [*planned(everything), *resources(parse(EXAMPLE))]:
        params = registry.load(resource.action).params
        parse_params(params, dict(resource.params))
        assert {file_key(resource.action, param.name) for param in params} >= {
            file_key(resource.action, name) for name in resource.params
        }


def test_a_parameter_is_written_to_the_key_that_it_is_read_from() -> None:
    assert file_key("redis.create", "max-memory") == "max_memory"
    assert file_key("user.create", "key") == "keys"


def test_two_instances_without_a_port_claim_the_same_one() -> None:
    with pytest.raises(PlanError, match=r"db1: redis\.r and redis\.s claim port 6379"):
        planned('[redis.r]\non = "db1"\n[redis.s]\non = "db1"\n')


def test_one_port_is_claimed_once_on_a_server() -> None:
    app = '[apps.{0}]\non = "{1}"\nuser = "{0}"\nport = 3000\n'
    with pytest.raises(PlanError) as caught:
        planned(
            app.format("a", "@app")
            + app.format("b", "web2")
            + '[redis.r]\non = "web2"\nmax_memory = "1GiB"\nport = 3000\n'
        )
    assert caught.value.message == "web2: app.a and app.b and redis.r claim port 3000"
    assert caught.value.exit_code == 3
    assert len(planned(app.format("a", "web1") + app.format("b", "web2"))) == 2


def test_the_hash_covers_action_and_parameters_only() -> None:
    one = Resource("web1", "app.a", "app.create", {"name": "a", "port": 3000}, "apps")
    same = Resource("web2", "app.a", "app.create", {"port": 3000, "name": "a"}, "other")
    assert resource_hash(one) == resource_hash(same)
    canonical = b'{"action":"app.create","params":{"name":"a","port":3000}}'
    assert resource_hash(one) == hashlib.sha256(canonical).hexdigest()
    assert resource_hash(one) != resource_hash(
        Resource("web1", "app.a", "app.create", {"name": "a", "port": 3001}, "apps")
    )


def firewalls(text: str) -> dict[str, dict[str, object]]:
    return {r.server: dict(r.params) for r in planned(text) if r.action == "firewall.set"}


def test_firewall_stanzas_of_a_server_are_one_resource() -> None:
    text = """
[firewall.apps]
on = "@app"
allow = ["8080/tcp", "80/tcp"]
deny = ["443/udp"]
[firewall.web1]
on = "web1"
allow = ["8080/tcp", "9000-9010/udp from 10.0.0.0/8"]
"""
    (first, second) = (r for r in planned(text) if r.action == "firewall.set")
    assert (first.server, first.key, first.table, second.server) == ("web1", "firewall.all", "firewall", "web2")
    assert first.params == {
        # What the role needs comes with it, but for what is denied.
        "allow": ["8080/tcp", "80/tcp", "9000-9010/udp from 10.0.0.0/8", "443/tcp"],
        "deny": ["443/udp"],
        "ssh-ports": ["22"],  # a list holds texts (docs/protocol.md)
    }
    assert second.params["allow"] == ["8080/tcp", "80/tcp", "443/tcp"]
    action = registry.load("firewall.set")
    assert parse_params(action.params, dict(first.params)).ssh_ports == [22]


def test_one_stanza_without_defaults_is_enough() -> None:
    text = '[firewall.all]\non = "all"\n[firewall.web1]\non = "web1"\ndefaults = false\n'
    assert {name: params["allow"] for name, params in firewalls(text).items()} == {
        "web1": [],
        "web2": ["80/tcp", "443/tcp", "443/udp"],
        "db1": [],
    }


def test_the_port_that_ssh_is_reached_at_stays_open() -> None:
    assert firewalls('port = 2222\n[firewall.db]\non = "db1"\n')["db1"]["ssh-ports"] == ["2222"]


def test_the_firewall_comes_before_what_listens() -> None:
    text = '[firewall.db]\non = "db1"\n[redis.cache]\non = "db1"\n[users.ana]\non = "db1"\n'
    assert [r.key for r in planned(text)] == ["user.ana", "firewall.all", "redis.cache"]


def test_a_rule_that_is_allowed_and_denied() -> None:
    text = '[firewall.all]\non = "all"\nallow = ["5432/tcp"]\n[firewall.db]\non = "db1"\ndeny = ["5432/tcp"]\n'
    with pytest.raises(PlanError, match=r"\Adb1: firewall\.all allows 5432/tcp, and firewall\.db denies it\Z") as error:
        planned(text)
    assert error.value.hint == "sf firewall remove 5432/tcp --on all or sf firewall remove 5432/tcp --on db1"
    # Some of it may be denied.
    assert firewalls(text.replace('deny = ["5432/tcp"]', 'deny = ["5432/tcp from 10.9.0.0/16"]'))
