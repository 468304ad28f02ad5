"""TLS at Mozilla's level "intermediate", guideline 6.0: https://ssl-config.mozilla.org/guidelines/6.0.json

In each server's own block: nginx.conf of the distribution says `ssl_protocols` for all, and to say it there twice is an
error.
"""

from __future__ import annotations

from ._nginx import Nginx

PROTOCOLS = ("TLSv1.2", "TLSv1.3")
#: For TLS 1.2; those of TLS 1.3 are OpenSSL's own.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
)  # fmt: skip
GROUPS = ("X25519", "prime256v1", "secp384r1")
POST_QUANTUM = "X25519MLKEM768"


def settings(nginx: Nginx) -> list[str]:
    """Directives of a `server` block."""
    groups = (POST_QUANTUM, *GROUPS) if nginx.has_post_quantum_groups else GROUPS
    found = [
        f"ssl_protocols {' '.join(PROTOCOLS)};",
        f"ssl_ciphers {':'.join(CIPHERS)};",
        f"ssl_ecdh_curve {':'.join(groups)};",
        "ssl_prefer_server_ciphers off;",
        "ssl_session_timeout 1d;",
        "ssl_session_cache shared:serverflow:10m;",
    ]
    return found if nginx.renews_ticket_keys else [*found, "ssl_session_tickets off;"]


def listen(nginx: Nginx, *, tls: bool, default: bool = False) -> list[str]:
    """The `listen` lines of port 443 or 80, with HTTP/2 where there is TLS."""
    options = " ssl" if tls else ""
    if tls and not nginx.has_http2_directive:
        options += " http2"
    options += " default_server" if default else ""
    port = 443 if tls else 80
    places = [str(port), f"[::]:{port}"] if nginx.ipv6 else [str(port)]
    found = [f"listen {place}{options};" for place in places]
    return [*found, "http2 on;"] if tls and nginx.has_http2_directive else found
