"""The fleet file: what should be. One frozen model a stanza; an unknown key is an error.

Option B of a seam (another `provider`) brings its own model when it is implemented.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import fields

#: The version of the file's shape that this program reads.
SCHEMA = 1


RedisPolicy = Literal[
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]


ConfigKind = Literal[
    "sshd",
    "sysctl",
    "limits",
    "journald",
    "logrotate",
    "unattended-upgrades",
    "sudoers",
    "motd",
]


class Stanza(BaseModel):
    """What all stanzas share. Validators are built once, for the whole file, when the first file is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, hide_input_in_errors=True)


class Secret(Stanza):
    """A reference to a value in secrets.toml; a secret itself never stands in the fleet file."""

    secret: fields.SecretName


class Server(Stanza):
    """A machine. `host` and `port` are where SSH reaches it; the login is always `serverflow`."""

    host: fields.Host
    port: fields.Port = 22
    jump: fields.Jump | None = None
    roles: tuple[Literal["app", "db", "backup", "dns", "mail"], ...] = ()
    tags: tuple[fields.Tag, ...] = ()
    packages: tuple[fields.PackageName, ...] = ()
    timezone: fields.TimeZone | None = None
    hostname: fields.HostName | None = None


class Operator(Stanza):
    """A person's public keys. A wish: the signed trust file is the authority."""

    sign: fields.SigningKey
    seal: fields.SealingKey | None = None


class Grant(Stanza):
    """What a key may do. Globs and selectors are resolved when it is signed into the trust file."""

    to: fields.Name
    allow: Annotated[tuple[fields.ActionPattern, ...], Field(min_length=1)]
    on: fields.Selector
    where: dict[str, fields.Text] = {}
    expires: fields.Moment | None = None


class User(Stanza):
    """A login on the selected servers, with its public keys (authorized_keys(5))."""

    on: fields.Selector
    keys: tuple[fields.SshKey, ...] = ()
    groups: tuple[fields.UserName, ...] = ()
    shell: fields.Path | None = None
    comment: fields.FullName | None = None
    allow_root_groups: fields.Flag = False


class App(Stanza):
    """An application: the user that it runs as, the folders that outlive a release, the port that it listens on."""

    on: fields.Selector
    user: fields.UserName | None = None
    data: tuple[fields.Path, ...] = ()
    port: fields.ServicePort | None = None


class Redis(Stanza):
    """A Redis instance. `listen` are addresses besides loopback, `allow_from` selects who may connect to them."""

    on: fields.Selector
    port: fields.ServicePort | None = None
    listen: tuple[fields.Address, ...] = ()
    max_memory: fields.Size | None = None
    maxmemory_policy: RedisPolicy | None = None
    persistence: Literal["rdb", "aof", "none"] | None = None
    allow_from: fields.Selector | None = None


class Firewall(Stanza):
    """What may come in on the selected servers, besides SSH. All stanzas of a server are taken together.

    `allow` and `deny` hold rules such as "5432/tcp from 10.0.0.0/8"; a denial goes before what allows the same. With
    `defaults` what the server's roles need is allowed too; one stanza that is without them is enough to go without.
    """

    on: fields.Selector
    allow: tuple[fields.Rule, ...] = ()
    deny: tuple[fields.Rule, ...] = ()
    defaults: fields.Flag = True


class ConfigFile(Stanza):
    """A configuration file of a known kind, as a whole. A server has one of each kind."""

    on: fields.Selector
    kind: ConfigKind
    content: fields.Document


class CronJob(Stanza):
    """A command on a schedule (crontab(5)), in the app's folder and as its user when `app` is set."""

    on: fields.Selector
    schedule: fields.Schedule
    command: Annotated[tuple[fields.Argument, ...], Field(min_length=1)]
    app: fields.Name | None = None
    timeout: fields.Duration | None = None
    overlap: Literal["skip", "allow", "replace"] = "skip"


class Channel(Stanza):
    """Where alerts go."""

    provider: Literal["slack"]
    url: Secret


class AlertRoute(Stanza):
    """Which events of which servers go to which channels."""

    to: Annotated[tuple[fields.Name, ...], Field(min_length=1)]
    on: fields.Selector
    events: Annotated[tuple[fields.EventPattern, ...], Field(min_length=1)]


class Notify(Stanza):
    channels: dict[fields.Name, Channel] = {}
    routes: tuple[AlertRoute, ...] = ()


class DnsProvider(Stanza):
    """Who serves zones."""

    provider: Literal["cloudflare"]
    token: Secret


class Record(Stanza):
    """An rrset (RFC 2181, section 5). `name` is relative to the zone, `@` is the zone itself."""

    name: fields.RecordName
    type: Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    ttl: fields.Duration = "1h"


class Zone(Stanza):
    """A DNS zone. When it is `complete`, records that the file does not have are to be removed."""

    provider: fields.Name
    complete: fields.Flag = False
    records: tuple[Record, ...] = ()


class Dns(Stanza):
    providers: dict[fields.Name, DnsProvider] = {}
    zones: dict[fields.HostName, Zone] = {}


class RouteTarget(Stanza):
    app: fields.Name


class Route(Stanza):
    """A host name that leads to an app; its DNS record and certificate follow."""

    on: fields.Selector
    host: fields.HostName
    to: RouteTarget


class Checks(Stanza):
    """What must hold on the selected servers after a safe change as it did before, or the change is undone."""

    on: fields.Selector
    expect: Annotated[tuple[fields.Check, ...], Field(min_length=1)]


class Fleet(Stanza):
    """The whole file. Tables keep the order of the file."""

    schema_version: Annotated[int, Field(alias="schema", strict=True, ge=SCHEMA, le=SCHEMA)]
    timezone: fields.TimeZone = "UTC"
    base_domain: fields.HostName | None = None
    servers: dict[fields.ServerName, Server] = {}
    operators: dict[fields.Name, Operator] = {}
    grants: tuple[Grant, ...] = ()
    users: dict[fields.UserName, User] = {}
    apps: dict[fields.Name, App] = {}
    redis: dict[fields.Name, Redis] = {}
    firewall: dict[fields.Name, Firewall] = {}
    config: dict[fields.Name, ConfigFile] = {}
    cron: dict[fields.Name, CronJob] = {}
    notify: Notify = Field(default_factory=Notify)
    dns: Dns = Field(default_factory=Dns)
    routes: dict[fields.Name, Route] = {}
    checks: dict[fields.Name, Checks] = {}
