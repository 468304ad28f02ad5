"""Make a route, or bring it up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.apps import existing_app
from ..kit.route import PAGE, Target, takes
from ..kit.steps import File, Package
from . import _common, _users
from ._files import CERTIFICATES, FOLDER, NAME, SHARED, conf, is_ours, page, require_ours, route_in, routes, users
from ._folder import apps_within, unreadable
from ._nginx import PACKAGE, PROGRAM, UNIT, Nginx, nginx_of
from ._page import DEFAULT
from ._ports import require_free, unheard
from ._reading import Found, read
from ._render import Route, leads_to, locations_of, render
from ._site import Site, serving


@action(
    "route.set",
    "Lead requests for host names to an app, a port or a folder",
    kind="change",
    timeout=600,
    writes=(FOLDER,),
    units=(UNIT,),
    packages=(PACKAGE,),
    resource="route.{name}",
    params=[
        NAME,
        param("host", "routehost", "Host name, or *.NAME for all names below it", many=True),
        param(
            "to",
            "target",
            "Port of this server, ADDRESS:PORT, unix:SOCKET, folder below /srv or /var/www, app, or page:NAME for a "
            "page that says that NAME is ready; nothing: 404",
            default="",
        ),
        param("path", "location", "Path that leads elsewhere, as `/api 3001`", default=(), many=True),
        param("certificate", "hostname", f"Certificate below {CERTIFICATES}; without one it is HTTP only", default=""),
        param("redirect", "boolean", "With a certificate: redirect HTTP to HTTPS", default=True),
        param(
            "hsts",
            "duration",
            "Browsers use HTTPS only for so long (RFC 6797); 0s is not said",
            default=0,
            maximum=10**8,
        ),
        param("body-size", "size", "Largest request; 16MiB when left out", default=16 << 20, minimum=1),
        param(
            "read-timeout",
            "duration",
            "Longest silence of the app; 1h with WebSockets and 60s without when left out",
            default=0,
            maximum=86400,
        ),
        param("rate", "rate", "Requests that one address may make, as 10/s; else 429", default=""),
        param("burst", "integer", "Requests above that rate that are let through at once", default=20, maximum=10000),
        param("auth-user", "username", "User name that has to be given, with a password", default=""),
        # It may begin with a dash, and is no argument of anything.
        param(
            "auth-password", "document", "Its password; left out, the one that is set stays", default="", secret=True
        ),
        param("websockets", "boolean", "Let WebSockets through", default=True),
        param("maintenance", "boolean", "Answer everything with 503 and a page", default=False),
        param("maintenance-page", "document", "That page, HTML; a plain one when left out", default=""),
        param("access-log", "boolean", "Write a line of JSON for each request", default=True),
    ],
)
def set_route(params: Params, probe: Probe) -> Steps:
    name, nginx, found = params.name, nginx_of(probe), read(probe)
    route = _route(params, probe)
    for path in (conf(name), SHARED):
        require_ours(probe, path)
    _check(route, params.auth_password, nginx)
    gives_way = _giving_way(route, routes(probe))
    _check_hosts(route, found, gives_way)
    require_free(probe, (80, 443) if route.certificate else (80,), found)
    secret = _users.file(probe, name, route.auth_user, params.auth_password, found.user) if route.auth_user else None

    if not probe.stat(PROGRAM):  # one from elsewhere is left as it is
        yield Package((PACKAGE,))
        nginx, found = nginx_of(probe), read(probe)
    site, settings = Site(), _settings(params, route)
    others = [each for other, each in sorted(routes(probe).items()) if other not in (name, *gives_way)]
    shared = File(SHARED, _common.render(nginx, found, [*others, settings]))
    file = File(conf(name), render(route, nginx, settings))
    yield site.file(shared)
    yield site.file(secret or File(users(name), absent=True, secret=True))
    shown = params.maintenance_page or DEFAULT
    yield site.file(File(page(name), shown) if route.maintenance else File(page(name), absent=True))
    yield site.file(file)
    for other in gives_way:
        yield site.file(File(conf(other), absent=True))
    yield serving(site, shared, file)
    return {"hosts": list(route.hosts), "https": bool(route.certificate), "warnings": _warnings(route, probe, found)}


def _route(params: Params, probe: Probe) -> Route:
    """Raises Refused for an app that is not there, or has no port."""
    locations = [(prefix, _resolved(probe, to)) for prefix, to in locations_of(params.path)]
    return Route(
        params.name,
        sorted(set(params.host)),
        _resolved(probe, leads_to(params.to)) if params.to else None,
        locations,
        params.certificate,
        params.redirect,
        params.hsts,
        params.body_size,
        params.read_timeout,
        params.rate,
        params.burst,
        params.auth_user,
        params.websockets,
        params.maintenance,
        params.access_log,
    )


def _resolved(probe: Probe, to: Target) -> Target:
    if to.kind != "app":
        return to
    port = existing_app(probe, to.value).port
    if not port:
        raise Refused(f"the app {to.value} has no port: sf app create {to.value} --port PORT")
    return Target("proxy", f"127.0.0.1:{port}")


def _check(route: Route, password: str, nginx: Nginx) -> None:
    if not route.hosts:
        raise Refused("a route needs at least one host name")
    if not route.to and not route.locations:
        raise Refused("a route leads somewhere: give `to`, or a path")
    prefixes = [prefix for prefix, _ in route.locations]
    twice = sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1})
    if twice:
        raise Refused(f"{', '.join(twice)} leads to two places")
    if route.to and route.to.kind == "page" and (route.locations or route.auth_user or route.maintenance):
        raise Refused("a page gives way to other routes, so it has no path, auth-user or maintenance")
    if password and not route.auth_user:
        raise Refused("a password is for auth-user, which is not given")
    if route.hsts and not route.certificate:
        raise Refused("hsts is about HTTPS: give a certificate")
    if route.auth_user and not (route.certificate and route.redirect):
        raise Refused("a password would travel in the clear over HTTP: give a certificate, and let it redirect")
    if route.rate and "http_limit_req" in nginx.lacks:
        raise Refused("this nginx was built without limit_req, so it has no rates: install nginx-core", "unsupported")


def _giving_way(route: Route, others: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The routes that are a page and nothing else, and whose hosts are all this one's from now on."""
    return [
        name
        for name, each in sorted(others.items())
        if name != route.name
        and str(each.get("to", "")).startswith(PAGE)
        and not any(each.get(more) for more in ("paths", "auth_user", "maintenance"))
        and each.get("hosts")
        and all(any(takes(ours, theirs) for ours in route.hosts) for theirs in each["hosts"])
    ]


def _check_hosts(route: Route, found: Found, gives_way: Sequence[str]) -> None:
    """nginx itself only warns, and takes the first."""
    for server in found.servers:
        both = sorted(set(route.hosts) & set(server.names)) if server.listens & {80, 443} else []
        owner = route_in(server.file)
        if not both or owner in (route.name, *gives_way):
            continue
        if owner:
            raise Refused(f"{', '.join(both)} belongs to the route {owner}: one route has all paths of a host")
        raise Refused(f"{', '.join(both)} is served by {server.file} already, which ServerFlow did not write")


def _settings(params: Params, route: Route) -> dict[str, Any]:
    """What is told in the file's head, for `route.list` and `route.show`."""
    return {
        "hosts": list(route.hosts),
        "to": params.to,
        "paths": sorted(set(params.path)),
        "certificate": route.certificate,
        "redirect": route.redirect,
        "hsts_s": route.hsts,
        "body_size": route.body_size,
        "read_timeout_s": route.timeout,
        "rate": route.rate,
        "burst": route.burst,
        "auth_user": route.auth_user,
        "websockets": route.websockets,
        "maintenance": route.maintenance,
        "access_log": route.access_log,
    }


def _warnings(route: Route, probe: Probe, found: Found) -> list[str]:
    """What nginx does not mind, and visitors will."""
    said = []
    targets: Sequence[Target] = [to for to in (route.to, *(to for _, to in route.locations)) if to]
    for folder in sorted({to.value for to in targets if to.kind == "folder"}):
        said += unreadable(probe, folder, found.user) or apps_within(probe, folder)
    if not route.maintenance:
        places = sorted({to.value for to in targets if to.kind == "proxy"})
        said += [f"nobody seems to listen on {each} yet: visitors would get 502" for each in unheard(probe, places)]
    # No further: it is a link to where the keys are, which is hidden from actions.
    if route.certificate and not probe.stat(f"{CERTIFICATES}/{route.certificate}"):
        said.append(f"there is no certificate {route.certificate} on this server yet")
    strangers = [server.file for server in found.servers if 443 in server.default and not is_ours(server.file)]
    if route.certificate and strangers:
        said.append(f"{strangers[0]} has the default server of port 443: its ssl_protocols count for all of the port")
    return said
