"""Key files: ours and ssh-keygen's read alike, and what cannot sign is named."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serverflow_cli.errors import ConfigError, TrustError
from serverflow_cli.trust import keys, seal


def ssh_keygen(*arguments: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *map(str, arguments)], capture_output=True, check=True, text=True).stdout


def made(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    ssh_keygen("-q", "-t", kind, "-N", passphrase, "-C", "by ssh-keygen", "-f", path)
    return path


def test_ssh_keygen_reads_what_we_make(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = keys.generate(path, "ana at work")
    assert path.stat().st_mode & 0o777 == 0o600
    assert ssh_keygen("-y", "-f", path).strip() == key.openssh
    assert ssh_keygen("-l", "-f", path).split()[1] == keys.fingerprint(key.public_key)
    assert path.with_name("key.pub").read_text() == key.openssh + "\n"
    assert keys.load(path) == key


def test_we_read_what_ssh_keygen_makes(tmp_path: Path) -> None:
    path = made(tmp_path / "key")
    key = keys.load(path)
    assert key.openssh == path.with_name("key.pub").read_text().strip()
    assert keys.parse_public(key.openssh) == key.public_key
    assert keys.from_text(path.read_text().rstrip()).public_key == key.public_key


def test_a_passphrase(tmp_path: Path) -> None:
    path = made(tmp_path / "key", passphrase="correct horse")
    expected = keys.parse_public(path.with_name("key.pub").read_text())
    assert keys.load(path, "correct horse").public_key == expected
    with pytest.raises(TrustError) as caught:
        keys.load(path)
    assert caught.value.hint == f"ssh-add {path}"
    for wrong in "wrong", "", "correct horse ", "\udcff":
        with pytest.raises(TrustError, match="does not open"):
            keys.load(path, wrong)
    with pytest.raises(TrustError, match="environment has a passphrase") as caught:
        keys.from_text(path.read_text())
    assert "SF_KEY_FILE" in caught.value.hint


def test_the_public_half_needs_no_passphrase(tmp_path: Path) -> None:
    path = made(tmp_path / "key", passphrase="secret")
    line = path.with_name("key.pub").read_text()
    closed, beside = keys.read(path), keys.read(path.with_name("key.pub"))
    assert isinstance(closed, keys.ClosedKey) and closed.text and "PRIVATE KEY" not in repr(closed)
    assert closed.public_key == beside.public_key == keys.parse_public(line)
    with pytest.raises(TrustError):
        keys.ClosedKey(beside.public_key, "x").open("secret")


def test_a_public_half_that_is_not_of_this_key(tmp_path: Path) -> None:
    """It is not encrypted, so anybody who may write there could change it."""
    path, other = made(tmp_path / "key", passphrase="secret"), keys.new_private_key("x").public_key
    text = path.read_text()
    body = base64.b64decode("".join(text.splitlines()[1:-1]))
    changed = body.replace(keys.parse_public(path.with_name("key.pub").read_text()), other)
    assert changed != body
    path.write_text("\n".join((text.splitlines()[0], base64.b64encode(changed).decode(), text.splitlines()[-1], "")))
    assert keys.read(path).public_key == other
    with pytest.raises((ConfigError, TrustError)):
        keys.load(path, "secret")


def test_damaged_files_with_a_passphrase(tmp_path: Path) -> None:
    text = made(tmp_path / "key", passphrase="secret").read_text()
    first, *_, last = text.splitlines()
    body = base64.b64decode("".join(text.splitlines()[1:-1]))
    end = body.index(b"ssh-ed25519") + 51 - 4
    for cut in range(end):
        path = tmp_path / "cut"
        path.write_text("\n".join((first, base64.b64encode(body[:cut]).decode(), last)))
        path.chmod(0o600)
        with pytest.raises(ConfigError):
            keys.read(path)


@pytest.mark.parametrize(
    "line", ["", "x", "ssh-rsa AAAA", "ssh-ed25519 AAAA", "sk-ssh-ed25519@openssh.com AAAA", "\xff"]
)
def test_odd_public_files(tmp_path: Path, line: str) -> None:
    path = tmp_path / "key.pub"
    path.write_text(line, encoding="latin-1")
    with pytest.raises(ConfigError):
        keys.read(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.read(tmp_path / "nowhere.pub")


def test_a_plain_key_needs_no_cryptography_package(tmp_path: Path) -> None:
    path = made(tmp_path / "key")
    program = (
        "import sys, pathlib; from serverflow_cli.trust import keys; keys.load(pathlib.Path(sys.argv[1])).sign(b'');"
        "sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


@pytest.mark.parametrize("passphrase", ["", "secret"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_are_named(tmp_path: Path, kind: str, passphrase: str) -> None:
    path = made(tmp_path / "key", kind, passphrase)
    with pytest.raises(ConfigError, match=r"rsa|ecdsa|RSA|EC;") as caught:
        keys.load(path, passphrase or None)
    assert "ssh-keygen -t ed25519" in caught.value.hint
    with pytest.raises(ConfigError, match="only ssh-ed25519"):
        keys.parse_public(path.with_name("key.pub").read_text())


def test_existing_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is kept"):
        keys.generate(path, "")
    assert path.read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        keys.generate(link, "")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_can_read(tmp_path: Path, mode: int) -> None:
    path = made(tmp_path / "key")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to others") as caught:
        keys.load(path)
    assert caught.value.hint.startswith("chmod 600")


@pytest.mark.parametrize("read", [keys.load, keys.read])
def test_a_file_that_is_no_key_is_not_to_be_closed(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """The hint would have somebody run `chmod 600 /etc/passwd`."""
    path = tmp_path / "passwd"
    for data in (b"root:x:0:0:root:/root:/bin/bash\n", b"\xff\x00", b""):
        path.write_bytes(data)
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="is not a private key in OpenSSH's format") as caught:
            read(path)
        assert "chmod" not in caught.value.hint


def test_damaged_files(tmp_path: Path) -> None:
    path = made(tmp_path / "key")
    text = path.read_text()
    body = base64.b64decode("".join(text.splitlines()[1:-1]))
    first, *_, last = text.splitlines()
    comment = body.index(b"by ssh-keygen")
    for at in {*range(len(body))} - {*range(comment, comment + 13)}:
        damaged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises((ConfigError, TrustError)):
            keys.from_text("\n".join((first, base64.b64encode(damaged).decode(), last)))
    for wrong in ("", "x", first, text.replace("OPENSSH", "RSA"), "\n".join((first, "!!!!", last))):
        with pytest.raises(ConfigError):
            keys.from_text(wrong)
    for length in range(0, len(body), 5):
        with pytest.raises((ConfigError, TrustError)):
            keys.from_text("\n".join((first, base64.b64encode(body[:length]).decode(), last)))
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.load(tmp_path / "nowhere")


def test_private_halves_are_not_shown() -> None:
    key, opener = keys.new_private_key("x"), seal.new_seal_key()
    assert repr(key.seed) not in repr(key)
    assert repr(opener.private) not in repr(opener)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 ä", "ssh-rsa AAAA"])
def test_damaged_public_keys(line: str) -> None:
    with pytest.raises(ConfigError):
        keys.parse_public(line)


def test_sealed_secrets(tmp_path: Path) -> None:
    key, path = seal.new_seal_key(), tmp_path / "seal"
    seal.save_seal_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert seal.load_seal_key(path) == key == seal.seal_key_from_text(key.text)
    box = seal.seal(key.public, b"hunter2")
    assert b"hunter2" not in box
    assert seal.unseal(key, box) == b"hunter2"
    for other, damaged in (
        (seal.new_seal_key(), box),
        (key, box[:-1]),
        (key, b""),
        (key, box[:-1] + bytes([box[-1] ^ 1])),
    ):
        with pytest.raises(TrustError):
            seal.unseal(other, damaged)
    for wrong in ("", "x25519:", "x25519:AAAA", key.text, key.public[7:], "x25519:" + "A" * 43 + "="):
        with pytest.raises(ConfigError):
            seal.seal(wrong, b"")
    with pytest.raises(ConfigError):
        seal.seal_key_from_text(key.public)
