"""The files that routes consist of, all in nginx's conf.d, which is read by Debian's nginx and by nginx.org's alike.

Whoever may write there can make nginx, which starts as root, load files: so all that goes in is made from values of
known grammars, and no text of others is ever copied into it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ..kit import Probe, Refused
from ..kit.spec import Param, param

FOLDER = "/etc/nginx/conf.d"
#: Read before the routes: it has the format of their logs.
SHARED = f"{FOLDER}/00-serverflow.conf"
CERTIFICATES = "/etc/serverflow/certs"
LOGS = "/var/log/nginx"

NAME: Param = param("name", "name", "Route name", positional=True, complete="route")
MARK = "# Written by ServerFlow (route.set): changes by hand are undone.\n"

_ROUTE = re.compile(r"serverflow-([a-z][a-z0-9-]*)\.conf\Z")
_SETTINGS = re.compile(r"^# settings (\{.*\})$", re.M)


def conf(name: str) -> str:
    return f"{FOLDER}/serverflow-{name}.conf"


def users(name: str) -> str:
    """The user and the hash of the password; the name does not end in .conf, so nginx does not read it as one."""
    return f"{FOLDER}/serverflow-{name}.users"


def page(name: str) -> str:
    """What is shown during maintenance."""
    return f"{FOLDER}/serverflow-{name}.html"


def log(name: str) -> str:
    """Debian rotates /var/log/nginx/*.log."""
    return f"{LOGS}/serverflow-{name}.log"


def header(settings: dict[str, Any]) -> str:
    """The first lines of a route's file: what it was made from, to be shown without reading nginx's words."""
    return f"{MARK}# settings {json.dumps(settings, sort_keys=True)}\n"


def settings_in(text: str) -> dict[str, Any]:
    """What `header` wrote; {} when it is not there or damaged."""
    found = _SETTINGS.search(text)
    try:
        value = json.loads(found.group(1)) if found else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_ours(path: str) -> bool:
    """Whether this is the shared file or a route's."""
    return path == SHARED or route_in(path) != ""


def route_in(path: str) -> str:
    """The route whose file this is, "" for another file."""
    found = _ROUTE.match(path[len(FOLDER) + 1 :]) if path.startswith(f"{FOLDER}/") else None
    return found.group(1) if found else ""


def routes(probe: Probe) -> dict[str, dict[str, Any]]:
    """The settings of all routes, by name."""
    names = [name for name in (route_in(f"{FOLDER}/{file}") for file in probe.names(FOLDER)) if name]
    return {name: settings_in(text_of(probe, conf(name))) for name in names}


def text_of(probe: Probe, path: str) -> str:
    """ "" where there is no plain file: a link is somebody else's, and is not followed."""
    found = probe.stat(path)
    if not found or found.kind != "file":
        return ""
    return (probe.read(path, follow=False) or b"").decode("utf-8", "replace")


def require_ours(probe: Probe, path: str) -> None:
    """Raises Refused when there is something that ServerFlow did not write. What it wrote may be changed by hand."""
    if probe.stat(path) and probe.written(path) is None and not text_of(probe, path).startswith(MARK):
        raise Refused(f"{path} was not written by ServerFlow: it is left alone")
