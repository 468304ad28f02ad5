"""The wish for a certificate: its grammars, and its two files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_actions.kit import certificate
from serverflow_actions.kit.certificate import Credential, Endpoint, Wish

SECRET = "c2VjcmV0LXRzaWcta2V5LTAxMjM0NTY3ODk="
WISH = Wish("web1", ("web1.acme.app",), zone="acme.app", servers=("192.0.2.1:53",), key="web1")


def test_both_files_are_read_as_they_were_written() -> None:
    wish = WISH._replace(reload=("nginx.service",), verify=("web1.acme.app:443@192.0.2.7",), eab_key_id="kid")
    assert certificate.wish_from_json(wish.as_json().encode()) == wish
    credential = Credential(SECRET, "hmac-key-0123456789")
    assert certificate.credential_from_json(credential.as_json().encode(), wish) == credential
    assert SECRET not in f"{credential!r} {credential}"


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b'{"v": 2}', b'{"v": 1}', b"\xff", b"[" * 50_000])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        certificate.wish_from_json(content)


@pytest.mark.parametrize("name", ["web1.acme.app", "*.web1.acme.app", "a.b", "xn--bcher-kva.example"])
def test_domains(name: str) -> None:
    assert certificate.domain(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "web1", "*", "*.", "*.app", "*.*.a.b", "a.*.b", "A.b", "a..b", "-a.b", "a.b.", "192.0.2.1", "a b.c", "a.b\n",
     None, 5],
)  # fmt: skip
def test_what_is_no_domain(name: Any) -> None:
    with pytest.raises(ValueError):
        certificate.domain(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web1.acme.app:443", Endpoint("web1.acme.app", "127.0.0.1", 443)),
        ("web1.acme.app:8443@192.0.2.7", Endpoint("web1.acme.app", "192.0.2.7", 8443)),
        ("web1.acme.app:443@2001:db8::1", Endpoint("web1.acme.app", "2001:db8::1", 443)),
    ],
)
def test_endpoints(text: str, found: Endpoint) -> None:
    assert certificate.endpoint(text) == found


@pytest.mark.parametrize("text", ["web1", "web1:", ":443", "web1:0", "web1:70000", "[::1]:443", "web1:443@x y", None])
def test_what_is_no_endpoint(text: Any) -> None:
    with pytest.raises(ValueError):
        certificate.endpoint(text)


@pytest.mark.parametrize(
    "url",
    ["", "http://ca.example/", "https://", "https://u:p@ca.example/", "https://ca.example/?q", "https://ca.example/#f",
     "https://ca.example:x/", "https://ca.example/a b", "https://ca.example/\n", "file:///etc/passwd", None],
)  # fmt: skip
def test_what_is_no_directory(url: Any) -> None:
    with pytest.raises(ValueError):
        certificate.directory(url)


def test_directories() -> None:
    for url in (
        certificate.LETS_ENCRYPT,
        certificate.STAGING,
        "https://ca.example:14000/dir",
        "https://[2001:db8::1]/dir",
    ):
        assert certificate.directory(url) == url


@given(st.text(max_size=60))
def test_no_text_breaks_out_of_what_programs_are_told(text: str) -> None:
    """nsupdate reads lines of words, certbot a file of lines, dig arguments."""
    for field in ("zone", "key", "eab_key_id", "email", "directory"):
        try:
            changed: dict[str, Any] = {field: text}
            certificate.check(WISH._replace(**changed))
        except ValueError:
            continue
        assert not set(text) & set(" \t\r\n\"';")
        # A line of certbot's file becomes one argument with its option: `--eab-kid=-a`.
        assert field in ("eab_key_id", "email") or not text.startswith(("-", "@", "+"))
    for secret in (Credential(text), Credential(SECRET, text)):
        wish = WISH._replace(eab_key_id="kid") if secret.eab_hmac_key else WISH
        try:
            certificate.check_credential(wish, secret)
        except ValueError as error:
            assert len(text) < 8 or text not in str(error)
        else:
            assert not set(text) & set(" \t\r\n\"';")
