"""A certificate that a server is to have, as it stands there: /etc/serverflow/cert/NAME.json, its secrets beside it.

Written by the actions of the area cert, read by what issues and renews (remote/certrun.py). What is issued is
/etc/serverflow/certs/NAME/fullchain.pem and privkey.pem.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import grammar

FOLDER = "/etc/serverflow/cert"
#: The certificates themselves: a link for each, to the folder of the version that counts.
INSTALLED = "/etc/serverflow/certs"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096")
METHODS = ("tsig", "cloudflare")
#: RFC 8945, section 6: those that are still recommended.
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
#: Units that read a certificate again when they are reloaded, and whose configuration can be checked before
#: (remote/validate.py). Databases and caches that want a restart are not among them: a renewal, which comes by itself,
#: cuts nobody's connection off.
RELOADABLE = tuple(f"{name}.service" for name in ("apache2", "dovecot", "haproxy", "nginx", "postfix"))
#: RFC 5280, section 5.3.1, as certbot spells them: those that a subscriber may give.
REASONS = ("unspecified", "keycompromise", "affiliationchanged", "superseded", "cessationofoperation")

#: Let's Encrypt takes so many names in one certificate.
_MOST_NAMES = 100
_MOST = 16
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}\Z")
_KEY_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,256}\Z")
_TOKEN = re.compile(r"[!-~]{8,256}\Z")
_PLACE = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([a-z0-9.-]+)):([0-9]{1,5})\Z")


class Wish(NamedTuple):
    """What is to be had, and how this server proves that the names are its own (DNS-01, RFC 8555 section 8.4).

    names      host names, each perhaps with `*.` before it
    directory  URL of the authority's ACME directory
    email      the account's; "" for none
    key_type   one of KEY_TYPES
    method     tsig: dynamic updates (RFC 2136) of `zone` at `servers` (HOST:PORT) with the key `key`; cloudflare: its
               API, for `zone` (with `zone_id`, "" to have it looked up)
    eab_key_id external account binding (RFC 8555 section 7.3.4); "" for none
    reload     units that are told when there is a new one, of RELOADABLE
    verify     `NAME:PORT` or `NAME:PORT@ADDRESS`: where this server has to serve it then
    rehearsal  URL of a directory where it is tried once a week; "" for none
    """

    name: str
    names: tuple[str, ...]
    directory: str = LETS_ENCRYPT
    email: str = ""
    key_type: str = KEY_TYPES[0]
    method: str = METHODS[0]
    zone: str = ""
    servers: tuple[str, ...] = ()
    key: str = ""
    algorithm: str = ALGORITHMS[0]
    zone_id: str = ""
    eab_key_id: str = ""
    reload: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    rehearsal: str = ""

    def as_json(self) -> str:
        """The file's content: the same wish is the same bytes."""
        return json.dumps({"v": 1, **self._asdict()}, sort_keys=True, indent=1) + "\n"


class Credential(NamedTuple):
    """What is secret of it: the TSIG key or the API token, and the HMAC key of the account binding ("" for none)."""

    secret: str
    eab_hmac_key: str = ""

    def __repr__(self) -> str:
        return "Credential(…)"

    def as_json(self) -> str:
        return json.dumps({"v": 1, **self._asdict()}, sort_keys=True) + "\n"


class Endpoint(NamedTuple):
    """Where a certificate is served: the name that is asked for (SNI, RFC 6066), and where to connect to."""

    name: str
    address: str
    port: int


def wish_path(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def credential_path(name: str) -> str:
    return f"{FOLDER}/{name}.secret"


# --- grammars --------------------------------------------------------------------------------------------------------


def domain(raw: Any) -> str:
    """A host name of at least two labels, or `*.` and one. Raises ValueError."""
    text = raw if isinstance(raw, str) else ""
    plain = grammar.hostname(text[2:] if text.startswith("*.") else text)
    if "." not in plain or plain.rpartition(".")[2].isdigit():
        raise ValueError(f"{text[:60]!a} is not a host name that an authority certifies")
    return text


def directory(raw: Any) -> str:
    """An https URL without a login, a query or a fragment. Raises ValueError."""
    try:
        parts = urlsplit(raw if isinstance(raw, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or "@" in parts.netloc or not re.match(r"https://[A-Za-z0-9._~:/\[\]%-]{1,500}\Z", raw):
        raise ValueError(f"{str(raw)[:60]!a} is not the https URL of an ACME directory")
    return str(raw)


def place(raw: Any) -> str:
    """`HOST:PORT`, an IPv6 address in brackets. Raises ValueError."""
    split_place(raw)
    return str(raw)


def split_place(raw: Any) -> tuple[str, int]:
    """Host or address, and port. Raises ValueError."""
    found = _PLACE.match(raw) if isinstance(raw, str) else None
    if not found:
        raise ValueError(f"{str(raw)[:60]!a} is not HOST:PORT, with an IPv6 address in brackets")
    host = grammar.address(found.group(1)) if found.group(1) else grammar.hostname(found.group(2))
    return host, grammar.port(found.group(3))


def endpoint(raw: Any) -> Endpoint:
    """`NAME:PORT`, by way of loopback, or `NAME:PORT@ADDRESS`. Raises ValueError."""
    text, _, address = raw.partition("@") if isinstance(raw, str) else ("", "", "")
    name, port = split_place(text)
    if ":" in name:
        raise ValueError(f"{str(raw)[:60]!a}: what is asked for is a host name, not an address")
    return Endpoint(name, grammar.address(address) if address else "127.0.0.1", port)


def tsig_secret(raw: str) -> str:
    """Base64 of at least 16 bytes (RFC 8945, section 8). Raises ValueError, which does not show it."""
    try:
        key = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 16:
        raise ValueError("the TSIG key is not the base64 of at least 16 bytes")
    return raw


def hmac_key(raw: str) -> str:
    """URL-safe base64 (RFC 8555, section 7.3.4). Raises ValueError, which does not show it."""
    if not re.match(r"[A-Za-z0-9_-]{16,512}={0,2}\Z", raw):
        raise ValueError("the HMAC key of the account binding is not URL-safe base64")
    return raw


# --- files -----------------------------------------------------------------------------------------------------------


def check(wish: Wish) -> Wish:
    """The wish, if it is one. Raises ValueError with a sentence."""
    for field, value in wish._asdict().items():
        if field in ("names", "servers", "reload", "verify"):
            if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
                raise ValueError(f"{field} is not a list of texts")
        elif not isinstance(value, str):
            raise ValueError(f"{field} is not text")
    grammar.name(wish.name)
    if not 1 <= len(set(wish.names)) == len(wish.names) <= _MOST_NAMES:
        raise ValueError(f"a certificate has 1 to {_MOST_NAMES} names, each once")
    for each in wish.names:
        domain(each)
    for each in filter(None, (wish.directory, wish.rehearsal)):
        directory(each)
    if not wish.directory or wish.rehearsal == wish.directory:
        raise ValueError("the directory is missing, or the rehearsal's is the same one")
    if wish.email and not _MAIL.match(wish.email):
        raise ValueError("email is not a mail address")
    if wish.eab_key_id and not _KEY_ID.match(wish.eab_key_id):
        raise ValueError("the id of the account binding's key is not one word")
    for word, known in ((wish.key_type, KEY_TYPES), (wish.method, METHODS), (wish.algorithm, ALGORITHMS)):
        if word not in known:
            raise ValueError(f"{word[:60]!a} is not one of {', '.join(known)}")
    _check_challenge(wish)
    if max(len(wish.reload), len(wish.verify), len(wish.servers)) > _MOST:
        raise ValueError(f"at most {_MOST} units, endpoints and name servers")
    for each in wish.reload:
        if each not in RELOADABLE:
            raise ValueError(f"{each[:60]!a} is none of those that are reloaded: {', '.join(RELOADABLE)}")
    for each in wish.verify:
        endpoint(each)
    return wish


def _check_challenge(wish: Wish) -> None:
    """What the method needs is there, and nothing of the other."""
    grammar.hostname(wish.zone)
    if wish.method == "tsig":
        if not wish.servers or not wish.key or wish.zone_id:
            raise ValueError("dynamic updates need the address of the primary and the name of a key, and no zone id")
        grammar.hostname(wish.key)
        for each in wish.servers:
            place(each)
    elif wish.servers or wish.key or (wish.zone_id and not re.match(r"[0-9a-f]{32}\Z", wish.zone_id)):
        raise ValueError("Cloudflare's API has a zone and perhaps its id, no name server and no TSIG key")


def check_credential(wish: Wish, credential: Credential) -> Credential:
    """The secrets, if they are such as the wish needs. Raises ValueError, which does not show them."""
    if not all(isinstance(value, str) for value in credential):
        raise ValueError("a secret is not text")
    if wish.method == "tsig":
        tsig_secret(credential.secret)
    elif not _TOKEN.match(credential.secret):
        raise ValueError("the API token is not one word")
    if bool(wish.eab_key_id) != bool(credential.eab_hmac_key):
        raise ValueError("an account binding is an id and an HMAC key")
    if credential.eab_hmac_key:
        hmac_key(credential.eab_hmac_key)
    return credential


def wish_from_json(content: bytes) -> Wish:
    """The wish that `as_json` wrote. Raises ValueError."""
    return check(Wish(**_fields(content, Wish._fields)))


def credential_from_json(content: bytes, wish: Wish) -> Credential:
    """The credential that `as_json` wrote. Raises ValueError, which does not show it."""
    return check_credential(wish, Credential(**_fields(content, Credential._fields)))


def _fields(content: bytes, known: tuple[str, ...]) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(content)
        if value.pop("v") != 1:
            raise ValueError("not of version 1")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("not the file of a certificate of version 1") from None
    if not set(value) <= set(known):
        raise ValueError("it has fields that nobody knows")
    return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}
