"""What actions ask of the broker about certificates: each is done by a unit of its own, with the network that engines
have not. The action waits, and gets what is known afterwards.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Callable

import certcore
import certinstall
import certs
import certsandbox
import cronjobs
import layout
from serverflow_actions.kit.certificate import REASONS
from serverflow_actions.kit.certunits import PROPERTIES
from serverflow_actions.kit.host import HostError

#: For the unit. An order may wait for one before it; what was revoked has another ordered after that. The timeouts of
#: the actions are longer.
_SECONDS = {"cert-renew": 2 * certsandbox.SECONDS + 120, "cert-revoke": 3 * certsandbox.SECONDS + 300}
_LOG = "journalctl -u 'serverflow-cert*' says more"


def perform(do: str, name: str, fields: dict[str, Any], stop: Callable[[], str]) -> dict[str, Any]:
    """`do` is issue (`force`), revoke (`reason`) or forget (`purge`); see Host.certificate_do. Raises HostError."""
    takes = {"issue": {"force"}, "revoke": {"reason"}, "forget": {"purge"}}.get(do)
    if takes is None or set(fields) != takes:
        raise HostError(f"certificates cannot be asked to {do} with {', '.join(fields) or 'nothing'}")
    if do == "forget":
        _forget(name, fields["purge"] is True)
        return {}
    if do == "issue":
        _issue(name, fields["force"] is True, stop)
    else:
        _revoke(name, fields["reason"], stop)
    return certcore.described(name)


def _issue(name: str, force: bool, stop: Callable[[], str]) -> None:
    """Raises HostError when there is none then, or this attempt failed; what failed before it says nothing of it."""
    began = int(time.time())
    code = _unit(name, ["cert-renew", name, *(["force"] if force else [])], stop)
    known = certs.state(name)
    is_tried = known.attempted_at >= began
    if is_tried and known.failures:
        raise HostError(f"certificate {name}: {known.said}")
    _check_end(code)
    told = certcore.described(name)
    if told["problem"] or not told["path"]:
        raise HostError(f"certificate {name}: {told['problem'] or 'there is none'}")
    if force and not is_tried:
        raise HostError(f"certificate {name}: nobody tried; {_LOG}")


def _revoke(name: str, reason: str, stop: Callable[[], str]) -> None:
    if reason not in REASONS:
        raise HostError(f"{str(reason)[:40]!a} is no reason for a revocation")
    before = certs.state(name)
    try:
        code = _unit(name, ["cert-revoke", name, reason], stop)
        ended = f"it broke off (exit code {code})" if code else ""
    except HostError as error:
        code, ended = -1, f"it was cut off ({error})"
    known = certs.state(name)
    is_done = not code or known.last_revoked != before.last_revoked
    if not is_done:
        if code == 1 and known.said:
            raise HostError(known.said if known.revoked else f"it was not revoked: {known.said}")
        if code == os.EX_IOERR:
            raise HostError("it was revoked, and this server cannot remember that: make room, then revoke it again")
        if code in (os.EX_TEMPFAIL, os.EX_OSERR):
            _check_end(code)
    if known.revoked:
        why = ended or known.said or _LOG
        raise HostError(
            f"it was revoked, and is in use still: there is no other yet: {why}; `sf cert renew {name}` has one issued"
        )
    if is_done and ended:
        raise HostError(
            f"it was revoked and replaced, and then {ended}; `sf cert issue {name}` sees the new one served"
        )
    if ended:
        raise HostError(f"{ended}, and nobody knows whether it was revoked: do it again; {_LOG}")


def _check_end(code: int) -> None:
    """Raises HostError for an exit code that says that nobody tried."""
    if code == os.EX_TEMPFAIL:
        raise HostError("certificates are being renewed: try it again")
    if code:
        raise HostError(f"it broke off (exit code {code}); {_LOG}")


def _forget(name: str, purge: bool) -> None:
    try:
        with cronjobs.locked(f"{layout.CERT_RUN}/lock"):
            certs.forget(name)
            if purge:
                certinstall.purge(name)
    except TimeoutError:
        raise HostError("certificates are being renewed: try it again") from None
    except OSError as error:
        raise HostError(f"it cannot be removed: {error.strerror}") from error


def _unit(name: str, arguments: list[str], stop: Callable[[], str]) -> int:
    """The exit code of `runner ARGUMENTS`. Raises HostError when the run has to end before it."""
    unit = f"serverflow-cert-{name}-{time.monotonic_ns():x}.service"
    seconds = _SECONDS[arguments[0]]
    argv = [
        "systemd-run", "--wait", "--collect", "--quiet", f"--unit={unit}",
        *(f"--property={line}" for line in (*PROPERTIES, f"RuntimeMaxSec={seconds}", "KillMode=control-group")),
        "--", layout.RUNNER, *arguments,
    ]  # fmt: skip
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=layout.ENVIRONMENT
    ) as process:
        while True:
            try:
                process.communicate(timeout=0.2)
                return process.returncode
            except subprocess.TimeoutExpired:
                reason = stop()
            if reason:
                # An order of its own ends with it; that of another run, for which it waits, goes on.
                subprocess.run(
                    ["systemctl", "stop", "--", unit], env=layout.ENVIRONMENT, capture_output=True, check=False,
                    timeout=60,
                )  # fmt: skip
                process.kill()
                raise HostError(reason)
