"""The server's identity key: reading it, and signing with it.

Signing is never pure Python, because a private key must not leak through timing: libcrypto by ctypes, else ssh-keygen.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import os

import layout

HELLO = "hello.v1@serverflow"
RECEIPT = "receipt.v1@serverflow"
CHECKPOINT = "checkpoint.v1@serverflow"
PROOF = "identity.v1@serverflow"

_ED25519 = 1087  # NID_ED25519, openssl/obj_mac.h


class CannotSign(OSError):
    """The identity key is missing or damaged, or there is no process to sign with. What was done is not receipted: it
    counts as indeterminate.
    """


class Identity:
    """The key that HELLO and receipts are signed with, from an unencrypted OpenSSH private key file (PROTOCOL.key).

    It is read in a process of its own, for one signature: a read that breaks out of its sandbox inherits the runner's
    memory, and must not find the key there.
    """

    def __init__(self, path: str = layout.IDENTITY) -> None:
        self._path = path
        self._crypto = _libcrypto()  # loaded once; the processes that sign inherit it

    def sign(self, namespace: str, body: bytes) -> bytes:
        """An SSHSIG blob (PROTOCOL.sshsig) over the exact bytes. Raises CannotSign."""
        if self._crypto is None:
            return self._by_ssh_keygen(namespace, body)
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(sink, _sshsig(self._crypto, self._path, namespace, body))
            finally:
                os._exit(0)  # no code of the caller's runs twice
        os.close(sink)
        with open(source, "rb") as file:
            blob = file.read()
        os.waitpid(child, 0)
        if not blob:
            raise CannotSign(errno.ENOKEY, "the identity key cannot be used")
        return blob

    def signed(self, namespace: str, body: bytes) -> bytes:
        """The `signed` structure of docs/protocol.md with this one signature."""
        blob = self.sign(namespace, body)
        return b"\x01" + len(blob).to_bytes(2, "big") + blob + body

    def _by_ssh_keygen(self, namespace: str, body: bytes) -> bytes:
        import subprocess
        import tempfile

        with tempfile.NamedTemporaryFile(dir=layout.RUN) as file:
            file.write(body)
            file.flush()
            argv = ["/usr/bin/ssh-keygen", "-q", "-Y", "sign", "-f", self._path, "-n", namespace]
            file.seek(0)
            done = subprocess.run(argv, stdin=file, capture_output=True, check=False)
            if done.returncode:
                raise CannotSign(errno.ENOKEY, "the identity key cannot be used")
            armoured = done.stdout.decode()
        return base64.b64decode("".join(line for line in armoured.split("\n") if line and not line.startswith("-----")))


def _sshsig(crypto: ctypes.CDLL, path: str, namespace: str, body: bytes) -> bytes:
    with open(path, encoding="ascii") as file:
        lines = file.read().split("\n")
    blob = base64.b64decode("".join(line for line in lines if line and not line.startswith("-----")))
    fields = _strings(blob[len(b"openssh-key-v1\0") :], 3)
    rest = fields[-1][4:]  # after cipher, kdf and kdf options: the number of keys
    public, private = _strings(rest, 2)[:2]
    # check number twice, then type, public and private half
    _, _, secret = _strings(private[8:], 3)[:3]
    message = b"SSHSIG" + _pack(namespace.encode(), b"", b"sha512", hashlib.sha512(body).digest())
    signature = _pack(b"ssh-ed25519", _sign(crypto, secret[:32], message))
    return b"SSHSIG" + (1).to_bytes(4, "big") + _pack(public, namespace.encode(), b"", b"sha512", signature)


def _strings(data: bytes, count: int) -> list[bytes]:
    """The first `count` length-prefixed strings, and what follows them as a last item."""
    found = []
    for _ in range(count):
        length = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return [*found, data]


def _pack(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _libcrypto() -> ctypes.CDLL | None:
    for name in ("libcrypto.so.3", "libcrypto.so.1.1"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _sign(crypto: ctypes.CDLL, seed: bytes, message: bytes) -> bytes:
    """EVP_DigestSign(3) with a raw Ed25519 key."""
    crypto.EVP_PKEY_new_raw_private_key.restype = ctypes.c_void_p
    crypto.EVP_PKEY_new_raw_private_key.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    crypto.EVP_MD_CTX_new.restype = ctypes.c_void_p
    key = ctypes.c_void_p(crypto.EVP_PKEY_new_raw_private_key(_ED25519, None, seed, len(seed)))
    context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
    signature, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    try:
        if crypto.EVP_DigestSignInit(context, None, None, None, key) != 1:
            raise RuntimeError("libcrypto cannot use the identity key")
        size = ctypes.c_size_t(len(message))
        if crypto.EVP_DigestSign(context, signature, ctypes.byref(length), message, size) != 1 or length.value != 64:
            raise RuntimeError("libcrypto cannot sign")
    finally:
        crypto.EVP_MD_CTX_free(context)
        crypto.EVP_PKEY_free(key)
    return signature.raw
