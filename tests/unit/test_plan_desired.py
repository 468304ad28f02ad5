import hashlib
from pathlib import Path

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.spec import parse as parse_params
from serverflow_cli.config.load import parse
from serverflow_cli.plan.conflicts import PlanError
from serverflow_cli.plan.desired import file_key, file_value, job_action, not_planned, resources
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
    found = resources(parse(EXAMPLE))
    areas = [resource.action.partition(".")[0] for resource in found]
    assert list(dict.fromkeys(areas)) == [
        "package", "user", "firewall", "app", "redis", "dns", "notify", "cron", "cert", "route",
    ]  # fmt: skip
    assert [each for each, area in zip(found, areas, strict=True) if area not in ("dns", "cert", "route")] == [
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
                "allow": ["8080/tcp from 10.0.0.0/8", "80/tcp", "443/tcp", "443/udp", "53/tcp", "53/udp"],
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
        *(
            Resource(
                server,
                "notify.ops",
                "notify.set",
                {
                    "name": "ops",
                    "server": server,
                    "rules": ["cron.* error", "safe.rolled_back error"],
                    "provider": "slack",
                },
                "notify.channels",
                {"url": "slack_ops"},
            )
            for server in ("web1", "db1")
        ),
        Resource(
            "web1",
            "cron.report",
            "cron.command",
            {
                "name": "report",
                "schedule": "15 3 * * *",
                "app": "shop",
                "command": ["bin/report", "--all"],
                "timeout": "30m",
                "overlap": "skip",
                "timezone": "Europe/Paris",
            },
            "cron",
        ),
    ]


def test_the_name_servers_certificates_and_routes_of_the_example() -> None:
    found = resources(parse(EXAMPLE))
    zones = [(each.server, each.params["zone"]) for each in found if each.action == "dns.zone"]
    assert ("db1", "acme.net.") in zones and ("web1", "catalog-own.invalid.") in zones
    certificates = {each.params["name"]: each for each in found if each.action == "cert.set"}
    assert certificates["server"].params["names"] == ["web1.acme.app", "*.web1.acme.app"]
    assert certificates["base"].params["verify"] == ["shop.acme.app:443", "store.acme.app:443"]
    assert certificates["base"].secrets["eab-hmac-key"] == "acme_eab"
    (page,) = (each for each in found if each.key == "route.server")
    assert (page.server, page.params["to"]) == ("web1", "page:web1")
    (shop,) = (each for each in found if each.key == "route.shop")
    assert shop.secrets == {"auth-password": "route_shop"}
    assert shop.params == {
        "name": "shop", "host": ["shop.acme.app", "store.acme.app"], "to": "shop",
        "path": ["/api 3001", "/docs /srv/docs"], "certificate": "base", "hsts": "730d", "body-size": "32MiB",
        "read-timeout": "2m", "rate": "10/s", "burst": 40, "maintenance-page": "<h1>Back soon</h1>",
        "redirect": True, "websockets": True, "maintenance": False, "access-log": True, "auth-user": "ana",
    }  # fmt: skip


def test_what_cannot_be_applied_yet_is_said() -> None:
    assert not_planned(parse(EXAMPLE)) == ["redis.cache.allow_from", "grants[0]"]
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
        parse_params(params, {**dict.fromkeys(resource.secrets, "c2VjcmV0"), **resource.params})
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


# --- alerts -----------------------------------------------------------------------------------------------------------

SLACK = '[notify.channels.{0}]\nprovider = "slack"\nurl = {{ secret = "{0}" }}\n'
MAIL = """
[notify.channels.mail]
provider = "smtp"
host = "mail.acme.app"
username = { secret = "mail_user" }
password = { secret = "mail_password" }
sender = "sf@acme.app"
to = ["ana@acme.app", "bob@acme.app"]
"""


def rules(text: str) -> dict[tuple[str, str], list[str]]:
    return {(r.key, r.server): r.params["rules"] for r in planned(text) if r.action == "notify.set"}


def test_without_routes_all_failures_go_to_all_channels() -> None:
    found = rules(SLACK.format("a") + SLACK.format("b"))
    assert found == {(f"notify.{c}", s): ["* error"] for c in "ab" for s in ("web1", "web2", "db1")}


def test_a_channel_is_only_where_something_goes_to_it() -> None:
    routes = """
[[notify.routes]]
to = ["a"]
on = "@app"
events = ["cron.*", "safe.rolled_back warning"]
severity = "info"
[[notify.routes]]
to = ["a"]
on = "web2"
events = ["cron.*", "*"]
"""
    both = ["cron.* info", "safe.rolled_back warning"]
    assert rules(SLACK.format("a") + SLACK.format("b") + routes) == {
        ("notify.a", "web1"): both,
        ("notify.a", "web2"): [*both, "cron.* error", "* error"],
    }


def test_a_route_without_more_is_for_all_failures_of_all_servers() -> None:
    assert set(map(tuple, rules(SLACK.format("a") + '[[notify.routes]]\nto = ["a"]\n').values())) == {("* error",)}
    channels = "schema = 1\n" + SLACK.format("a")
    assert resources(parse(channels)) == resources(parse(channels + '[[notify.routes]]\nto = ["a"]\n')) == []


def test_who_names_an_event_means_it_as_grave_as_it_usually_is() -> None:
    route = '[[notify.routes]]\nto = ["a"]\non = "db1"\nevents = ["cron.skipped", "cron.failed"]\n'
    assert rules(SLACK.format("a") + route) == {("notify.a", "db1"): ["cron.skipped warning", "cron.failed error"]}


def test_no_value_of_a_secret_is_in_a_resource() -> None:
    (mail, *_) = planned(MAIL)
    assert mail.params == {
        "name": "mail",
        "server": "web1",
        "rules": ["* error"],
        "provider": "smtp",
        "host": "mail.acme.app",
        "sender": "sf@acme.app",
        "to": ["ana@acme.app", "bob@acme.app"],
    }
    assert mail.secrets == {"username": "mail_user", "password": "mail_password"}
    action = registry.load(mail.action)
    parse_params(action.params, {**mail.params, **mail.secrets})
    assert {param.name for param in action.params if param.secret} >= mail.secrets.keys()


def test_which_secret_it_is_counts_for_the_hash_and_none_changes_no_hash() -> None:
    params = {"name": "a"}
    plain = Resource("web1", "notify.a", "notify.set", params, "notify.channels")
    one, other = (Resource("web1", "notify.a", "notify.set", params, "notify.channels", {"url": n}) for n in "xy")
    assert len({resource_hash(plain), resource_hash(one), resource_hash(other)}) == 3
    canonical = b'{"action":"notify.set","params":{"name":"a"}}'
    assert resource_hash(plain) == hashlib.sha256(canonical).hexdigest()


def test_the_port_of_a_mail_server_is_nobodys_here() -> None:
    mail = MAIL + "port = 3000\n"
    app = '[apps.a]\non = "web1"\nport = 3000\n'
    assert len(planned(mail + mail.replace("channels.mail", "channels.more") + app)) == 7


# --- cron -------------------------------------------------------------------------------------------------------------

JOB = '[cron.nightly]\non = "{on}"\nschedule = "@daily"\n'
SHOP = '[apps.shop]\non = "@app"\n'


def test_a_job_is_always_told_its_time_zone() -> None:
    (job,) = planned(JOB.format(on="db1") + 'action = "service.restart"\nparams = { unit = "nginx" }\n')
    assert (job.server, job.key, job.action, job.table) == ("db1", "cron.nightly", "cron.add", "cron")
    assert job.params == {
        "name": "nightly",
        "schedule": "@daily",
        "action": "service.restart",
        "params": ["unit=nginx"],
        "timezone": "UTC",
    }


def test_a_jobs_parameters_are_texts_on_the_way() -> None:
    text = 'action = "a.b"\nparams = { names = ["a", "b"], security = true, lines = 5 }\n'
    fleet = parse(HEAD + JOB.format(on="db1") + text + 'timezone = "Asia/Tokyo"\nretries = 2\ncatch_up = true\n')
    _, params = job_action(fleet, "nightly", fleet.cron["nightly"])
    assert params["params"] == ["names=a", "names=b", "security=true", "lines=5"]
    assert (params["timezone"], params["retries"], params["catch-up"]) == ("Asia/Tokyo", 2, True)


@pytest.mark.parametrize(
    ("work", "told", "hint"),
    [
        (
            'action = "service.restrat"\nparams = { unit = "nginx" }\n',
            r"cron\.nightly: no action has the name service\.restrat",
            "did you mean service.restart?",
        ),
        (
            'action = "service.restart"\nparams = { unti = "nginx" }\n',
            r"cron\.nightly: parameters of service\.restart: .*unti",
            "sf action show service.restart",
        ),
        ('action = "user.remove"\n', r"cron\.nightly: user\.remove cannot be scheduled", "sf action show user.remove"),
    ],
)
def test_a_mistyped_action_is_a_mistake_in_the_file(work: str, told: str, hint: str) -> None:
    """Servers would say of it that the key is not allowed to do it."""
    with pytest.raises(PlanError, match=rf"\A{told}") as error:
        planned(JOB.format(on="web2,db1") + work)
    assert (error.value.exit_code, error.value.hint) == (3, hint)


def test_what_an_action_and_a_job_are_called_with_is_what_the_file_has() -> None:
    assert file_value("cron.add", "params", ["unit=a", "x=1", "x=2"]) == {"unit": "a", "x": ["1", "2"]}
    assert file_value("cron.add", "schedule", "@daily") == "@daily"


def test_a_job_is_where_its_app_is() -> None:
    job = JOB.format(on="web2,db1") + 'app = "shop"\ncommand = ["x"]\n'
    with pytest.raises(
        PlanError, match=r"\Acron\.nightly: the app shop is not on db1 \(apps\.shop is on @app\)\Z"
    ) as error:
        planned(SHOP + job)
    assert error.value.hint == 'give cron.nightly on = "@app", or a part of that; or change `on` of apps.shop'
    assert [r.server for r in planned(SHOP + job.replace("web2,db1", "web2")) if r.table == "cron"] == ["web2"]
