"""Sends one signed command, as docs/protocol.md says, and with --flip changes one byte of it after it was signed.

    tamper.py PORT KEY KNOWN_HOSTS IDENTITY [--flip]

It imports nothing of ServerFlow; OpenSSH connects, signs and checks the receipt. The byte lies in a free text that
says who acts, so a server which did not check the signature would run the command. Exit code 0 when the server refuses
what was changed, or has done what was not.
"""

import base64
import json
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

COMMAND, RECEIPT = "command.v1@serverflow", "receipt.v1@serverflow"


def sign(key: str, body: bytes) -> bytes:
    """The SSHSIG blob that ssh-keygen makes."""
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", COMMAND, "-f", key]
    armoured = subprocess.run(argv, input=body, capture_output=True, check=True).stdout.decode()
    return base64.b64decode("".join(armoured.splitlines()[1:-1]))


def is_signed(identity: str, blob: bytes, body: bytes) -> bool:
    """Whether the server's identity key has signed this receipt."""
    with tempfile.TemporaryDirectory() as folder:
        signers, signature = f"{folder}/signers", f"{folder}/sig"
        Path(signers).write_text(f"server {identity}\n")
        text = base64.encodebytes(blob).decode()
        Path(signature).write_text(f"-----BEGIN SSH SIGNATURE-----\n{text}-----END SSH SIGNATURE-----\n")
        argv = ["ssh-keygen", "-q", "-Y", "verify", "-n", RECEIPT, "-I", "server", "-f", signers, "-s", signature]
        return subprocess.run(argv, input=body, capture_output=True).returncode == 0


def unpack(signed: bytes) -> tuple[bytes, bytes]:
    """Signature and body of what has one signature."""
    end = 3 + int.from_bytes(signed[1:3], "big")
    return signed[3:end], signed[end:]


def receive(source: IO[bytes]) -> tuple[bytes, bytes]:
    """Kind and payload of the next frame."""
    head = source.read(5)
    return head[:1], source.read(int.from_bytes(head[1:], "big"))


def main(port: str, key: str, known_hosts: str, identity: str, flip: bool) -> int:
    argv = ["ssh", "-T", "-F", "none", "-p", port, "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    argv += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes", "serverflow@127.0.0.1"]
    nonce = secrets.token_hex(32)
    with subprocess.Popen([*argv, f"sf1 {nonce}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
        assert ssh.stdin and ssh.stdout
        hello = json.loads(unpack(receive(ssh.stdout)[1])[1])
        body = json.dumps({
            "v": 1, "typ": "command", "server_id": hello["server_id"], "challenge": hello["challenge"],
            "op_id": "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(25)).rjust(26, "0"),
            "action": "service.restart", "action_version": 1, "params": {"unit": "redis-server@cache"},
            "trust_version": hello["trust_version"], "issued_at": hello["clock"], "expires_at": hello["clock"] + 60_000,
            "limits": {}, "mode": "run", "confirm_s": 0, "base": None, "plan_sha256": None, "secrets_commit": None,
            "blobs": [], "prev_receipt": "", "actor": "you",
        }).encode()  # fmt: skip
        blob = sign(key, body)
        print(f"signed: restart redis-server@cache, {len(body)} bytes, actor you")
        if flip:
            body = body.replace(b'"actor": "you"', b'"actor": "yot"')
            print("sent:   the same with one byte changed, actor yot")
        frame = b"\1" + len(blob).to_bytes(2, "big") + blob + body
        ssh.stdin.write(len(frame).to_bytes(4, "big") + frame + bytes(4))  # no secrets
        ssh.stdin.flush()
        kind, payload = receive(ssh.stdout)
        while kind == b"P":
            kind, payload = receive(ssh.stdout)
    if kind != b"R":
        print(f"answer: {payload.decode()}")
        return 0 if flip and kind == b"E" else 1
    signature, body = unpack(payload)
    receipt = json.loads(body)
    signed = is_signed(identity, signature, body) and receipt["nonce"] == nonce
    print(f"answer: {receipt['outcome']}, a receipt {'with' if signed else 'WITHOUT'} the server's signature")
    return 0 if not flip and signed and receipt["outcome"] == "done" else 1


if __name__ == "__main__":
    words = sys.argv[1:]
    raise SystemExit(main(words[0], words[1], words[2], words[3], flip="--flip" in words))
