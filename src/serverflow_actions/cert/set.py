"""Say which certificate a server is to have, and how it proves that the names are its own."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action, param
from ..kit.certificate import ALGORITHMS, FOLDER, KEY_TYPES, LETS_ENCRYPT, METHODS, credential_path, wish_path
from ..kit.certunits import TIMER
from ..kit.steps import File, Package
from ._shared import NAME, PACKAGES, renewing, wish_of


@action(
    "cert.set",
    "Have this server get and renew a certificate of its own",
    kind="change",
    timeout=900,
    writes=(FOLDER,),
    units=(TIMER,),
    packages=PACKAGES,
    host_verbs=("cert-unit",),
    resource="cert.{name}",
    params=[
        NAME,
        param("names", "routehost", "Host name that it is for, or `*.` and one", many=True),
        param("directory", "text", "URL of the ACME directory; Let's Encrypt's when left out", default=LETS_ENCRYPT),
        param("email", "text", "Mail address of the account, where the authority wants one", default=""),
        param("key-type", "text", "Kind of the key; ecdsa-p256 when left out", default=KEY_TYPES[0], choices=KEY_TYPES),
        param("method", "text", "How DNS is changed: by dynamic updates or by Cloudflare's API", choices=METHODS),
        param("zone", "hostname", "The zone that the credential may change"),
        param("secret", "document", "The TSIG key in base64, or the API token", secret=True),
        param("server", "text", "tsig: HOST or HOST:PORT of the zone's primary", default=(), many=True),
        param("key", "text", "tsig: the key's name", default=""),
        param(
            "algorithm", "text", "tsig: the key's algorithm; hmac-sha256 when left out", default=ALGORITHMS[0],
            choices=ALGORITHMS,
        ),
        param("zone-id", "text", "cloudflare: the zone's id, for a token that may not look it up", default=""),
        param("eab-key-id", "text", "External account binding: the id of its key", default=""),
        param("eab-hmac-key", "document", "External account binding: its HMAC key", default="", secret=True),
        param("reload", "unit", "Unit that reads it again after each renewal", default=(), many=True),
        param(
            "verify", "text", "NAME:PORT or NAME:PORT@ADDRESS where this server has to show it after a renewal",
            default=(), many=True,
        ),
        param("rehearsal", "text", "URL of a directory where it is tried once a week; none when left out", default=""),
    ],
)  # fmt: skip
def set_certificate(params: Params, _: Probe) -> Steps:
    wish, credential = wish_of(params)
    yield Package(PACKAGES)
    # Before the wish: without it that one cannot be carried out.
    yield File(credential_path(wish.name), credential.as_json(), 0o600, secret=True)
    yield File(wish_path(wish.name), wish.as_json(), 0o600)
    yield from renewing()
    return {"certificate": wish.name, "names": list(wish.names)}
