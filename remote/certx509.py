"""Keys, requests and certificates, by openssl(1): the standard library reads none of them. Raises Unusable."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import certari
import layout

_TIMEOUT_S = 60
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,20000}-----END CERTIFICATE-----\n")
_CHAIN_LIMIT = 100_000
_KEYS = {
    "ecdsa-p256": ("EC", "ec_paramgen_curve:P-256"),
    "ecdsa-p384": ("EC", "ec_paramgen_curve:P-384"),
    "rsa-2048": ("RSA", "rsa_keygen_bits:2048"),
    "rsa-4096": ("RSA", "rsa_keygen_bits:4096"),
}


class Unusable(Exception):
    """A sentence: what is wrong with it."""


class Certificate(NamedTuple):
    """What the first certificate of a chain says. `fingerprint` is the SHA-256 of its bytes; times are seconds since
    the epoch. `ari_id` is "" where its authority's key has no identifier.
    """

    names: tuple[str, ...]
    issuer: str
    serial: str
    not_before: int
    not_after: int
    fingerprint: str
    ari_id: str


def make_key(kind: str, path: str) -> None:
    """A private key, at this path; who may read it is for the caller's umask(2) and folder."""
    algorithm, option = _KEYS[kind]
    _openssl(["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", path])


def request(key: str, names: Sequence[str]) -> str:
    """A certificate signing request (RFC 2986) for these names and the key at this path; PEM."""
    listed = ",".join(f"DNS:{name}" for name in names)
    return _openssl(["req", "-new", "-sha256", "-key", key, "-subj", "/", "-addext", f"subjectAltName={listed}"])


def split(chain: str) -> list[str]:
    """The certificates of a chain in PEM, the server's own first."""
    text = chain.replace("\r\n", "\n")
    found = _PEM.findall(text if text.endswith("\n") else text + "\n")
    if not found or len(text) > _CHAIN_LIMIT:
        raise Unusable("what the authority gave is no chain of certificates")
    return [str(each) for each in found]


def described(certificate: str) -> Certificate:
    """What a certificate in PEM says."""
    shown = _openssl(
        ["x509", "-noout", "-serial", "-issuer", "-nameopt", "RFC2253", "-startdate", "-enddate"], certificate
    )
    fields = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    extensions = _openssl(["x509", "-noout", "-text", "-certopt", "no_pubkey,no_sigdump,no_header"], certificate)
    # `keyid:` stands before it up to OpenSSL 1.1.1.
    key = re.search(r"Authority Key Identifier:[^\n]*\n\s+(?:keyid:)?((?:[0-9A-F]{2}:)+[0-9A-F]{2})\s", extensions)
    try:
        serial = int(fields["serial"], 16)
        not_before, not_after = (
            int(ssl.cert_time_to_seconds(fields[name].strip())) for name in ("notBefore", "notAfter")
        )
        der = ssl.PEM_cert_to_DER_cert(certificate)
    except (KeyError, ValueError):
        raise Unusable("openssl does not say what is in the certificate") from None
    return Certificate(
        tuple(re.findall(r"DNS:([^,\s]+)", extensions)),
        "".join(c for c in fields.get("issuer", "").strip() if c.isprintable())[:300],
        f"{serial:x}",
        not_before,
        not_after,
        hashlib.sha256(der).hexdigest(),
        certari.identifier(bytes.fromhex(key.group(1).replace(":", "")), serial) if key else "",
    )


def check(chain: str, key: str, names: Sequence[str], now: int) -> Certificate:
    """The certificate, if it is one for the key at this path and for all of these names, and counts now; and if those
    after it are certificates, which whoever serves the chain wants to read.
    """
    first, *others = split(chain)
    found = described(first)
    for each in others:
        _openssl(["x509", "-noout"], each)
    if _openssl(["x509", "-noout", "-pubkey"], first) != _openssl(["pkey", "-pubout", "-in", key]):
        raise Unusable("the authority's certificate is for another key")
    missing = sorted(set(names) - set(found.names))
    if missing:
        raise Unusable(f"the authority's certificate is not for {', '.join(missing)}")
    if found.not_after <= now:
        raise Unusable("the authority's certificate has expired")
    return found


def _openssl(arguments: Sequence[str], given: str = "") -> str:
    try:
        done = subprocess.run(
            ["openssl", *arguments], input=given.encode(), env=layout.ENVIRONMENT, capture_output=True,
            check=False, timeout=_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"openssl cannot be run: {type(error).__name__}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unusable(f"openssl {arguments[0]}: {' '.join(said[-1:])[:300] or 'it failed'}")
    return done.stdout.decode("utf-8", "replace")
