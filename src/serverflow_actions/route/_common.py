"""The file that all routes share: the format of their logs, what WebSockets need, and who answers for unknown names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import _tls
from ._files import MARK, SHARED, is_ours
from ._nginx import Nginx
from ._reading import Found

#: One JSON object a line. Times are seconds with milliseconds; of an upstream there may be several ("0.1, 0.2"), or
#: none (""), so theirs are text.
_FIELDS = {
    "time": '"$time_iso8601"', "epoch": "$msec", "route": '"$serverflow_route"', "client": '"$remote_addr"',
    "host": '"$host"', "method": '"$request_method"', "uri": '"$request_uri"', "protocol": '"$server_protocol"',
    "tls": '"$ssl_protocol"', "status": "$status", "bytes_in": "$request_length", "bytes_out": "$bytes_sent",
    "request_time": "$request_time", "upstream": '"$upstream_addr"', "upstream_status": '"$upstream_status"',
    "upstream_time": '"$upstream_response_time"', "referer": '"$http_referer"', "agent": '"$http_user_agent"',
    "request_id": '"$request_id"',
}  # fmt: skip
_LOG_FORMAT = ",".join(f'"{name}":{value}' for name, value in _FIELDS.items())

#: Only WebSockets are let through: an upgrade to h2c would be a way around all that stands here (CVE-2020-11100's kin).
_MAPS = """\
map $http_upgrade $serverflow_upgrade {
    default "";
    ~*^websocket$ websocket;
}
map $serverflow_upgrade $serverflow_connection {
    default close;
    websocket upgrade;
}
"""
#: A name as long as names may be (RFC 1035, 255 octets) needs it.
_BUCKET = "server_names_hash_bucket_size"


def render(nginx: Nginx, found: Found, routes: Iterable[Mapping[str, Any]]) -> str:
    """For these routes, beside what others have in nginx's configuration."""
    others = [server for server in found.servers if not is_ours(server.file)]
    taken = {port for server in others for port in server.listens}
    parts = [MARK, f"log_format serverflow escape=json '{{{_LOG_FORMAT}}}';\n", _MAPS]
    if not found.http.get(_BUCKET, set()) - {SHARED}:
        parts.append(f"{_BUCKET} 512;\n")
    # Where others listen too, one of them is the default already, declared or as the first.
    if 80 not in taken:
        parts.append(_default(_tls.listen(nginx, tls=False, default=True), ["return 444;"]))
    if 443 not in taken and any(route.get("certificate") for route in routes):
        listen = _tls.listen(nginx, tls=True, default=True)
        # 421 is for whoever got in by a name that is known, and then asks for another one (RFC 9110, 15.5.20).
        parts.append(_default(listen, [*_tls.settings(nginx), *_no_handshake(nginx), "return 421;"]))
    return "".join(parts)


def _default(listen: list[str], rest: list[str]) -> str:
    lines = [*listen, "server_name _;", "access_log off;", *rest]
    return "server {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def _no_handshake(nginx: Nginx) -> list[str]:
    """An unknown name gets no certificate at all, rather than one that is somebody else's."""
    if nginx.rejects_handshakes:
        return ["ssl_reject_handshake on;"]
    # With a variable in it, the file is looked for at the handshake, which fails without one.
    return ["ssl_certificate /nonexistent/$ssl_server_name;", "ssl_certificate_key /nonexistent/$ssl_server_name;"]
