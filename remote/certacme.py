"""`runner cert-acme FOLDER`, in the sandbox of certsandbox.py: have certbot get a certificate, or revoke one.

certbot is the ACME client and no more: it gets a signing request and gives a chain back. It keeps accounts, and none of
its lineages, so that there are no renewal settings of it that could be lost; and its certificates, timers and hooks of
the distribution know nothing of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import certhook
import certreach
import certsandbox
import layout
from serverflow_actions.kit.certificate import Credential, Wish, check, check_credential

_SECONDS = certsandbox.SECONDS - 60
_SAID = 1500
_NOISE = re.compile(
    r"(Saving debug log|Ask for help|See the logfile|Plugins selected|Requesting a certificate|Account registered"
    r"|Hook '|Performing the following|Waiting for verification|Cleaning up|IMPORTANT NOTES"
    r"|[a-z0-9-]+ challenge for |- -|Simulating|Certbot failed to authenticate|Challenge failed for)"
)
#: RFC 8555, section 6.7. certbot itself tries a request again once after a nonce was refused.
_GONE, _NONCE, _REVOKED = "accountDoesNotExist", "badNonce", "alreadyRevoked"
_TRIES = 3
#: What certbot 2.1 says on Python 3.11 instead of any error of an authority: that one is in its log alone.
_MASKED = "can't set attribute"
_PROBLEM = re.compile(r"(urn:ietf:params:acme:error:[A-Za-z]+ :: [^\n]{1,1000})")
#: What it failed with, without those that it got over; certbot itself says the words and not the type.
_RAISED = re.compile(r"^acme\.messages\.Error: (urn:ietf:params:acme:error:[A-Za-z]+)", re.MULTILINE)
_LOG_LIMIT = 4 << 20
_RETRY = re.compile(r"retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")


class Order:
    """What is to be done, as the credential has it: `do` is issue or revoke."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.do = str(value["do"])
        given = value["wish"].items()
        fields: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in given}
        self.wish = check(Wish(**fields))
        self.credential = check_credential(self.wish, Credential(*value["credential"]))
        self.directory = str(value["directory"])
        self.is_bound = bool(value["bound"])
        self.csr = str(value.get("csr", ""))
        self.certificate = str(value.get("certificate", ""))
        self.reason = str(value.get("reason", "unspecified"))
        self.account = str(value["account"])

    @classmethod
    def read(cls) -> Order:
        """The one that systemd has loaded for this unit."""
        with open(f"{os.environ['CREDENTIALS_DIRECTORY']}/{certsandbox.CREDENTIAL}", "rb") as file:
            return cls(json.load(file))


def order(
    do: str,
    wish: Wish,
    credential: Credential,
    directory: str,
    *,
    csr: str = "",
    certificate: str = "",
    reason: str = "",
    account: str = "",
) -> dict[str, Any]:
    """An order for certsandbox.perform. The account binding is for the wish's own directory alone."""
    return {
        "do": do, "wish": wish._asdict(), "credential": list(credential), "directory": directory, "csr": csr,
        "certificate": certificate, "reason": reason, "account": account or account_of(wish, directory),
        "bound": directory == wish.directory and bool(wish.eab_key_id),
    }  # fmt: skip


def account_of(wish: Wish, directory: str) -> str:
    """The folder of the account: another one for another authority, address or binding."""
    binding = wish.eab_key_id if directory == wish.directory else ""
    return hashlib.sha256(json.dumps([directory, wish.email, binding]).encode()).hexdigest()[:16]


def main(folder: str) -> None:
    """Prints what came of it, one line of JSON."""
    try:
        found = Order.read()
        told = perform(found, folder)
    except (KeyError, TypeError, ValueError) as error:
        told = {"ok": False, "said": f"the order makes no sense: {type(error).__name__}"}
    except OSError as error:
        told = {"ok": False, "said": f"the order cannot be carried out: {error.strerror}"}
    sys.stdout.write(json.dumps(told) + "\n")


def perform(found: Order, folder: str) -> dict[str, Any]:
    """Whatever happens, nothing of a challenge stays in DNS that can be taken out of it."""
    certhook.take_out(found, folder)  # what a crash has left
    with tempfile.TemporaryDirectory() as scratch:
        try:
            told = _tried(found, folder, scratch)
        finally:
            left = certhook.take_out(found, folder)
    return {**told, "left": left} if left else told


def _tried(found: Order, folder: str, scratch: str) -> dict[str, Any]:
    """Once more after what says nothing about the order itself."""
    carry_out = _revoke if found.do == "revoke" else _issue
    for _ in range(_TRIES - 1):
        told = carry_out(found, folder, scratch)
        said = str(told.get("said", ""))
        if found.do == "issue" and _GONE in said:
            # Staging environments forget accounts: another is made.
            shutil.rmtree(f"{folder}/{found.account}", ignore_errors=True)
        elif _NONCE not in said:
            return told
    return carry_out(found, folder, scratch)


def _issue(found: Order, folder: str, scratch: str) -> dict[str, Any]:
    with open(f"{scratch}/csr.pem", "w", encoding="ascii") as file:
        file.write(found.csr)
    paths = [f"--{kind}-path={scratch}/{kind}.pem" for kind in ("cert", "chain", "fullchain")]
    hook = f"{layout.RUNNER} cert-hook {folder}"
    account = f"--email={found.wish.email}" if found.wish.email else "--register-unsafely-without-email"
    certhook.clear_reason(folder)
    said = _certbot(
        found, folder, scratch,
        ["certonly", "--agree-tos", account, "--no-eff-email", f"--csr={scratch}/csr.pem", *paths,
         "--authenticator=manual", "--preferred-challenges=dns", f"--manual-auth-hook={hook}"],
    )  # fmt: skip
    reason = certhook.reason(folder)
    if reason:
        return {"ok": False, "said": reason}
    try:
        with open(f"{scratch}/fullchain.pem", encoding="ascii") as file:
            return {"ok": True, "chain": file.read(100_001)}
    except (FileNotFoundError, ValueError):
        return _failed(said, found.credential)


def _revoke(found: Order, folder: str, scratch: str) -> dict[str, Any]:
    if not os.path.isdir(f"{folder}/{found.account}"):
        return {"ok": False, "said": "the account that it was issued to is not on this server any more"}
    with open(f"{scratch}/cert.pem", "w", encoding="ascii") as file:
        file.write(found.certificate)
    # By the account that it was issued to (RFC 8555, section 7.6): so the certificate's key stays where it is.
    argv = ["revoke", f"--cert-path={scratch}/cert.pem", f"--reason={found.reason}", "--no-delete-after-revoke"]
    code, said = _run(found, folder, scratch, argv)
    # Perhaps by us, who were cut off then.
    return {"ok": True} if code == 0 or _REVOKED in said else _failed(said, found.credential)


def _certbot(found: Order, folder: str, scratch: str, arguments: Sequence[str]) -> str:
    return _run(found, folder, scratch, arguments)[1]


def _run(found: Order, folder: str, scratch: str, arguments: Sequence[str]) -> tuple[int, str]:
    """certbot(1), in a process group of its own, which its hook may end."""
    account = f"{folder}/{found.account}"
    argv = [
        "certbot", *arguments, "--non-interactive", f"--server={found.directory}", f"--config-dir={account}/config",
        f"--work-dir={account}/work", f"--logs-dir={account}/logs", "--max-log-backups=5",
    ]  # fmt: skip
    if found.is_bound:
        # Arguments can be seen by others on the machine.
        with open(f"{scratch}/binding.ini", "w", encoding="ascii") as file:
            file.write(f"eab-kid = {found.wish.eab_key_id}\neab-hmac-key = {found.credential.eab_hmac_key}\n")
        argv.append(f"--config={scratch}/binding.ini")
    log = f"{account}/logs/letsencrypt.log"
    before = _stamp(log)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return 1, f"{said.decode('utf-8', 'replace')}\nit did not end within {_SECONDS} s"
    text = said.decode("utf-8", "replace")
    if _MASKED in text:
        text = _logged(log, _PROBLEM) or "certbot failed, and its log does not say why"
    elif process.returncode and _stamp(log) != before:  # else it is the log of another run
        kind = _logged(log, _RAISED)
        text = text if kind in text else f"{kind}\n{text}"
    return process.returncode, text


def _logged(log: str, pattern: re.Pattern[str]) -> str:
    """The last problem (RFC 7807) in certbot's log, as the pattern has it; "" for none."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            found = pattern.findall(file.read(_LOG_LIMIT))
    except OSError:
        found = []
    return str(found[-1]) if found else ""


def _stamp(log: str) -> tuple[int, ...]:
    """Another one when something was logged."""
    try:
        found = os.stat(log)
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _failed(said: str, credential: Credential) -> dict[str, Any]:
    """In certbot's own words, without those that say nothing; and until when the authority wants to be left alone."""
    lines = [line.strip() for line in said.splitlines()]
    text = " ".join(line for line in lines if line and not _NOISE.match(line)) or "certbot failed without a word"
    for secret in filter(None, credential):
        text = text.replace(secret, "…")
    until = _RETRY.search(text)
    told: dict[str, Any] = {"ok": False, "said": certreach.plain(text)[:_SAID]}
    return {**told, "retry_after": f"{until.group(1)}T{until.group(2)}Z"} if until else told
