"""The fleet file: what should be. One frozen model a stanza; an unknown key is an error.

Option B of a seam (another `provider`) brings its own model when it is implemented.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


Severity = Literal["info", "warning", "error", "critical"]


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
    #: Where the world finds it, if `host` is no address or not that one.
    addresses: tuple[fields.Address, ...] = ()


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
    """What is done on a schedule (crontab(5)) in a time zone, the fleet's unless it has one: a command as the user of
    an app, in its first data folder, or a registered action with its parameters.
    """

    on: fields.Selector
    schedule: fields.Schedule
    timezone: fields.TimeZone | None = None
    app: fields.Name | None = None
    command: Annotated[tuple[fields.Argument, ...], Field(min_length=1), fields.COMMAND] = ()
    action: fields.ActionName | None = None
    params: dict[fields.ParamName, fields.ParamValue] = {}
    timeout: fields.Duration | None = None
    memory: fields.Size | None = None
    overlap: Literal["skip", "wait", "kill"] = "skip"
    retries: Annotated[int, Field(strict=True, ge=0, le=10)] = 0
    retry_delay: fields.Duration | None = None
    catch_up: fields.Flag = False
    late: fields.Duration | None = None
    enabled: fields.Flag = True

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.app or self.command) and (self.action or self.params):
            raise ValueError("has both a command and an action: app with command, or action with params")
        if self.params and not self.action:
            raise ValueError("action is missing: params are those of an action")
        if self.command and not self.app:
            raise ValueError("app is missing: a command runs as the user of an app, never as root")
        if self.app and not self.command:
            raise ValueError(f'command is missing: what {self.app} is to run, such as ["bin/report", "--all"]')
        if not self.app and not self.action:
            raise ValueError("does nothing: it needs app and command, or action")
        if self.action and self.memory:
            raise ValueError("memory is for commands: an action brings its own limit")
        return self


class SlackChannel(Stanza):
    """An incoming webhook of Slack. Its URL is all that it takes to write there, so it is a secret."""

    provider: Literal["slack"]
    url: Secret


class WebhookChannel(Stanza):
    """A URL that gets each event as JSON, signed as the Standard Webhooks specification has it."""

    provider: Literal["webhook"]
    url: Secret
    secret: Secret


class SmtpChannel(Stanza):
    """Mail by an SMTP server (RFC 5321), with a login when `username` and `password` are set."""

    provider: Literal["smtp"]
    host: fields.Host
    port: fields.Port | None = None
    security: Literal["starttls", "tls", "none"] | None = None
    username: Secret | None = None
    password: Secret | None = None
    sender: fields.MailAddress
    to: Annotated[tuple[fields.MailAddress, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self


class ResendChannel(Stanza):
    """Mail by Resend's API."""

    provider: Literal["resend"]
    token: Secret
    sender: fields.MailAddress
    to: Annotated[tuple[fields.MailAddress, ...], Field(min_length=1)]


#: Where alerts go.
Channel = Annotated[SlackChannel | WebhookChannel | SmtpChannel | ResendChannel, Field(discriminator="provider")]


class AlertRoute(Stanza):
    """Which events of which servers go to which channels.

    An event's severity is at least the one behind its glob ("cron.* warning"), else the route's `severity`, else the
    usual one of an event that is named in full, else error.
    """

    to: Annotated[tuple[fields.Name, ...], Field(min_length=1)]
    on: fields.Selector = "all"
    events: Annotated[tuple[fields.EventRule, ...], Field(min_length=1)] = ("*",)
    severity: Severity | None = None


class Notify(Stanza):
    """Alerts. Without routes every failure goes to all channels."""

    channels: dict[fields.Name, Channel] = {}
    routes: tuple[AlertRoute, ...] = ()


class CloudflareDns(Stanza):
    """Zones at Cloudflare. The token needs Zone:Read and DNS:Edit for them, and nothing else."""

    provider: Literal["cloudflare"]
    token: Secret


class PowerDns(Stanza):
    """Zones on a server of the fleet. `nameservers` has the names of NS records and the server behind each; those but
    `on` copy the zones from it, and without it among them it is a hidden primary (RFC 9499). Copies are made with
    the TSIG key whose secret is `transfer_key`.
    """

    provider: Literal["powerdns"]
    on: fields.ServerName
    nameservers: Annotated[dict[fields.HostName, fields.ServerName], Field(min_length=1)]
    transfer_key: Secret | None = None


#: Who serves zones.
DnsProvider = Annotated[CloudflareDns | PowerDns, Field(discriminator="provider")]


class Record(Stanza):
    """An rrset (RFC 2181, section 5). `name` is relative to the zone, `@` is the zone itself. A `ttl` of "auto" leaves
    it to the provider, and so does `proxied`, by which the world sees Cloudflare's address.
    """

    name: fields.RecordName
    type: Literal["A", "AAAA", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    ttl: fields.Duration | Literal["auto"] = "1h"
    proxied: fields.Flag = False

    @model_validator(mode="after")
    def _proxied(self) -> Self:
        if self.proxied and self.type not in ("A", "AAAA", "CNAME"):
            raise ValueError(f"proxied is for A, AAAA and CNAME: nobody proxies {self.type}")
        return self


class Zone(Stanza):
    """A DNS zone. When it is `complete`, records that the file does not have are removed; else those that `sf` did not
    make are left alone.
    """

    provider: fields.Name
    complete: fields.Flag = False
    dnssec: fields.Flag = False
    records: tuple[Record, ...] = ()


class Dns(Stanza):
    providers: dict[fields.Name, DnsProvider] = {}
    zones: dict[fields.HostName, Zone] = {}


class RouteTarget(Stanza):
    """Where requests go: an app's port, a port of the server, a socket, another machine, or a folder that is served."""

    app: fields.Name | None = None
    port: fields.Port | None = None
    address: fields.RoutePlace | None = None
    socket: fields.Path | None = None
    folder: fields.Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("leads to one place: app, port, address, socket or folder")
        return self


class RouteLogin(Stanza):
    """A user name and password that visitors have to give (RFC 7617)."""

    user: fields.UserName
    password: Secret


class Route(Stanza):
    """Host names that lead somewhere; their DNS records and their certificate follow. `paths` lead elsewhere.

    `certificate` is the name of one, "none" for HTTP only, else the one that covers the names.
    """

    on: fields.Selector
    host: fields.RouteHost
    aliases: tuple[fields.RouteHost, ...] = ()
    to: RouteTarget | None = None
    paths: dict[fields.RoutePath, RouteTarget] = {}
    certificate: fields.Name | None = None
    redirect: fields.Flag = True
    hsts: fields.Duration | None = None
    body_size: fields.Size | None = None
    read_timeout: fields.Duration | None = None
    rate: fields.Rate | None = None
    burst: Annotated[int, Field(strict=True, ge=0, le=10000)] | None = None
    login: RouteLogin | None = None
    websockets: fields.Flag = True
    maintenance: fields.Flag = False
    maintenance_page: fields.Document | None = None
    access_log: fields.Flag = True

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.to is None and not self.paths:
            raise ValueError("leads nowhere: it needs to, or paths")
        return self


class Acme(Stanza):
    """Where certificates come from (RFC 8555). The selected servers have one for their own names below base_domain.

    `token` is what servers prove with that they may have it, where no zone of the file is at PowerDNS: Cloudflare's,
    with DNS:Edit for the zone. With `welcome` those of role app answer at their own names with a page, until a route
    of the file has the name.
    """

    directory: fields.AcmeDirectory = "letsencrypt"
    email: fields.MailAddress | None = None
    on: fields.Selector = "all"
    token: Secret | None = None
    eab_key_id: fields.Text | None = None
    eab_hmac_key: Secret | None = None
    rehearsal: fields.Flag = False
    welcome: fields.Flag = True

    @model_validator(mode="after")
    def _binding(self) -> Self:
        if (self.eab_key_id is None) != (self.eab_hmac_key is None):
            raise ValueError("eab_key_id and eab_hmac_key go together")
        return self


class Certificate(Stanza):
    """One more certificate on the selected servers."""

    on: fields.Selector
    names: Annotated[tuple[fields.RouteHost, ...], Field(min_length=1)]


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
    acme: Acme | None = None
    certificates: dict[fields.Name, Certificate] = {}
    routes: dict[fields.Name, Route] = {}
    checks: dict[fields.Name, Checks] = {}
