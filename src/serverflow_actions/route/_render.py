"""A route's file, in nginx's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..kit.route import SERVED, Target, split_location, target_of
from . import _tls
from ._files import CERTIFICATES, header, log, page, users
from ._nginx import Nginx

#: With WebSockets a connection may be silent for so long; without, an answer may take a minute.
_PATIENCE_S = {True: 3600, False: 60}
#: What an app might believe although anybody can send it. What is set here replaces what came; "" takes it away.
_HEADERS = {
    "Host": "$host", "X-Forwarded-For": "$remote_addr", "X-Forwarded-Proto": "$scheme", "X-Forwarded-Host": "$host",
    "X-Forwarded-Port": "$server_port", "X-Real-IP": "$remote_addr", "X-Request-ID": "$request_id",
    **dict.fromkeys(
        (
            "Forwarded", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Ssl", "X-Forwarded-Scheme",
            "X-Forwarded-User", "X-Client-IP", "True-Client-IP", "X-Original-URL", "X-Rewrite-URL", "Proxy",
        ),
        '""',
    ),
}  # fmt: skip
_MAINTENANCE = "/serverflow-maintenance"
_RETRY_AFTER_S = 300


class Route(NamedTuple):
    """What `route.set` was told, with apps already turned into their ports.

    `body_size` in bytes; `hsts` and `timeout` in seconds, 0 for none and for the usual; `rate` as `10/s`, "" for none.
    """

    name: str
    hosts: Sequence[str]
    to: Target | None
    locations: Sequence[tuple[str, Target]]
    certificate: str
    redirect: bool
    hsts: int
    body_size: int
    timeout: int
    rate: str
    burst: int
    auth_user: str
    websockets: bool
    maintenance: bool
    access_log: bool

    @property
    def zone(self) -> str:
        return f"serverflow-{self.name}"


def leads_to(text: str) -> Target:
    """The target of a parameter, which its grammar has let through."""
    return target_of(text)


def locations_of(texts: Iterable[str]) -> list[tuple[str, Target]]:
    """Prefix and target of each, the longest first, as nginx chooses."""
    found = [(prefix, target_of(to)) for prefix, to in map(split_location, texts)]
    return sorted(found, key=lambda each: (-len(each[0]), each[0]))


def render(route: Route, nginx: Nginx, settings: dict[str, object]) -> str:
    """The whole file. `settings` are told in its head."""
    parts = [header(settings)]
    if route.rate:
        count, _, unit = route.rate.partition("/")
        parts.append(f"limit_req_zone $binary_remote_addr zone={route.zone}:10m rate={count}r/{unit};\n")
    plain, secure = _tls.listen(nginx, tls=False), _tls.listen(nginx, tls=True)
    if not route.certificate:
        parts.append(_server(route, plain, _content(route)))
    elif route.redirect:
        parts.append(_server(route, plain, ["return 301 https://$host$request_uri;"]))
        parts.append(_server(route, secure, [*_secured(route, nginx), *_content(route)]))
    else:
        parts.append(_server(route, [*plain, *secure], [*_secured(route, nginx), *_content(route)]))
    return "".join(parts)


def _server(route: Route, listen: Sequence[str], rest: Sequence[str]) -> str:
    log_line = f"access_log {log(route.name)} serverflow;" if route.access_log else "access_log off;"
    lines = [
        *listen,
        f"server_name {' '.join(route.hosts)};",
        "server_tokens off;",
        f"set $serverflow_route {route.name};",
        log_line,
        *rest,
    ]
    return _block("server", lines)


def _block(head: str, lines: Sequence[str]) -> str:
    """Lines that are blocks themselves end in a newline, others in a semicolon."""
    inner = "\n".join(line.rstrip("\n") for line in lines)
    return f"{head} {{\n" + "".join(f"    {line}\n" for line in inner.split("\n")) + "}\n"


def _secured(route: Route, nginx: Nginx) -> list[str]:
    folder = f"{CERTIFICATES}/{route.certificate}"
    files = [f"ssl_certificate {folder}/fullchain.pem;", f"ssl_certificate_key {folder}/privkey.pem;"]
    return [*files, *_tls.settings(nginx), *_hsts(route)]


def _hsts(route: Route) -> list[str]:
    """RFC 6797. Of names below this one it says nothing: they may be on other servers."""
    return [f'add_header Strict-Transport-Security "max-age={route.hsts}" always;'] if route.hsts else []


def _content(route: Route) -> list[str]:
    if route.maintenance:
        return _maintenance(route)
    lines = [f"client_max_body_size {route.body_size};"]
    if route.rate:
        lines += [f"limit_req zone={route.zone} burst={route.burst} nodelay;", "limit_req_status 429;"]
    if route.auth_user:
        lines += ['auth_basic "Restricted";', f"auth_basic_user_file {users(route.name)};"]
    targets = [target for target in (route.to, *(to for _, to in route.locations)) if target]
    if any(target.kind not in ("folder", "page") for target in targets):
        lines += _proxy(route)
    for prefix, to in route.locations:
        lines += _location(prefix, to)
    return [*lines, _block("location /", _leads(route.to, "") if route.to else ["return 404;"])]


def _proxy(route: Route) -> list[str]:
    seconds = route.timeout or _PATIENCE_S[route.websockets]
    headers = {**_HEADERS, "Upgrade": '""', "Connection": "close"}
    if route.websockets:
        headers.update({"Upgrade": "$serverflow_upgrade", "Connection": "$serverflow_connection"})
    if route.auth_user:
        # The password is this route's, and none of the app's business; who came is.
        headers.update({"Authorization": '""', "X-Forwarded-User": "$remote_user"})
    return [
        "proxy_http_version 1.1;",
        "proxy_connect_timeout 10s;",
        f"proxy_read_timeout {seconds}s;",
        f"proxy_send_timeout {seconds}s;",
        *(["proxy_hide_header Strict-Transport-Security;"] if route.hsts else []),
        *(f"proxy_set_header {name} {value};" for name, value in headers.items()),
    ]


def _location(prefix: str, to: Target) -> list[str]:
    """`/api` and all below it, but not `/apis`."""
    at = ["return 301 $scheme://$host" + f"{prefix}/$is_args$args;"] if to.kind == "folder" else _leads(to, prefix)
    return [_block(f"location = {prefix}", at), _block(f"location {prefix}/", _leads(to, prefix))]


def _leads(to: Target, prefix: str) -> list[str]:
    if to.kind == "folder":
        # Without hidden files (.git, .env), and without links of one user to what another one owns. What stands in
        # `from` is not checked: the folder itself may be such a link, so no part of it that an app can replace does.
        return [
            f"alias {to.value}/;" if prefix else f"root {to.value};",
            "index index.html;",
            f"disable_symlinks if_not_owner from={_served(to.value)};",
            _block(r'location ~ "/\.(?!well-known/)"', ["return 404;"]),
        ]
    if to.kind == "page":
        return ["default_type text/plain;", f'return 200 "{to.value} is ready\\n";']
    if to.kind == "socket":
        return [f"proxy_pass http://unix:{to.value};"]
    return [f"proxy_pass http://{to.value};"]


def _served(folder: str) -> str:
    """`/srv` or `/var/www`, below which the folder lies: that one is the server's own, and may be a link."""
    return next(place for place in SERVED if folder.startswith(place)).rstrip("/")


def _maintenance(route: Route) -> list[str]:
    """503 with a page, for every path and method, and without a password."""
    shown = [
        "internal;",
        f"alias {page(route.name)};",
        "default_type text/html;",
        "charset utf-8;",
        f"add_header Retry-After {_RETRY_AFTER_S} always;",
        "add_header Cache-Control no-store always;",
        *_hsts(route),  # headers of the server are not inherited beside others
    ]
    return [
        f"error_page 503 {_MAINTENANCE};",
        _block(f"location = {_MAINTENANCE}", shown),
        _block("location /", ["return 503;"]),
    ]
