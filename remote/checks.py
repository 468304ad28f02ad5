"""What should answer does: a unit is active, a port takes connections, a URL has its status, a name resolves.

This makes the server connect to wherever the caller says, and a yes or no about a place that only the server reaches is
worth something (server-side request forgery). Therefore it is an action with a grant of its own; nothing that was
received is passed on but a status code; and what speaks with strangers is a read's sandbox with a network: nobody's
user, no capability, no write, none of our files.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple
from urllib.parse import SplitResult, urlsplit

import confine
import layout
from messages import Denied
from serverflow_actions.kit.checks import Check, parse, place

LIMIT = 16
#: For all of them together, and for one of each kind.
SECONDS = 15
SECONDS_EACH = {"tcp": 5, "http": 10, "dns": 5}

#: Of addresses: malloc(3) sets 64 MiB of them aside for each thread.
_MEMORY = 1 << 30
_STACK = 512 << 10
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}


class Verdict(NamedTuple):
    """Whether it is as expected, and what was found, in a few words of ours."""

    ok: bool
    said: str


def perform(expect: Sequence[str]) -> list[dict[str, Any]]:
    """Make the checks; one result for each, in order. Raises Denied(bad-params, sandbox-floor)."""
    if len(expect) > LIMIT:
        raise Denied("bad-params", f"expect: at most {LIMIT} checks")
    try:
        checks = [parse(text) for text in expect]
    except ValueError as error:
        raise Denied("bad-params", f"expect: {error}") from None
    deadline = time.monotonic() + SECONDS
    units = [check for check in checks if check.kind == "unit"]
    others = [check for check in checks if check.kind != "unit"]
    found = dict(zip(units, unit_states([unit.target for unit in units])))
    verdicts = {unit: Verdict(state == unit.expected, f"it is {state}") for unit, state in found.items()}
    verdicts.update(zip(others, _sandboxed(others, deadline) if others else ()))
    return [
        {"check": text, "ok": verdicts[check].ok, "said": verdicts[check].said} for text, check in zip(expect, checks)
    ]


def unit_states(names: Sequence[str]) -> list[str]:
    """systemctl(1), is-active: a word for each."""
    if not names:
        return []
    argv = ["systemctl", "is-active", "--", *names]
    try:
        done = subprocess.run(argv, env=layout.ENVIRONMENT, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ["not known to systemctl"] * len(names)
    words = done.stdout.split()
    return words if len(words) == len(names) else ["not known to systemctl"] * len(names)


# --- the child -------------------------------------------------------------------------------------------------------


def _sandboxed(checks: Sequence[Check], deadline: float) -> list[Verdict]:
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _confined(checks, sink)
    os.close(sink)
    data = b""
    try:
        watch = select.poll()
        watch.register(source, select.POLLIN)
        while watch.poll(max(0, deadline - time.monotonic()) * 1000):
            part = os.read(source, 65536)
            if not part:
                break
            data += part
    finally:
        os.close(source)
        # Process 1 of the child's pid namespace dies with it.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return _heard(data, len(checks))


def _heard(data: bytes, count: int) -> list[Verdict]:
    """What the child wrote. Where it was killed, nothing or half of it."""
    try:
        told = json.loads(data)
    except ValueError:
        told = {"verdicts": [(False, "it could not be tried to the end")] * count}
    if "floor" in told:
        raise Denied("sandbox-floor", str(told["floor"]))
    return [Verdict(*one) for one in told["verdicts"]]


def _confined(checks: Sequence[Check], sink: int) -> None:
    """The child. Never returns: whatever happens it leaves by _exit, so that no code of the runner's runs twice."""

    def send(told: dict[str, Any]) -> None:
        data = json.dumps(told).encode()
        while data:
            data = data[os.write(sink, data) :]

    try:
        confine.undumpable()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            confine.enter(layout.READ_USER, False, False, _MEMORY, SECONDS, network=True)
        except confine.CannotConfine as error:
            send({"floor": str(error)})
            os._exit(0)
        if os.fork() == 0:
            confine.die_with_parent()
            threading.stack_size(_STACK)
            send({"verdicts": side_by_side(checks)})
            os._exit(0)
        os.close(sink)
        os.wait()
    finally:
        os._exit(1)


def side_by_side(checks: Sequence[Check]) -> list[Verdict]:
    """All at once, each no longer than its kind may take, whatever it waits for."""
    verdicts = [Verdict(False, f"no answer within {SECONDS_EACH[check.kind]} s") for check in checks]

    def make(number: int) -> None:
        verdicts[number] = verdict(checks[number])

    threads = [threading.Thread(target=make, args=(number,), daemon=True) for number in range(len(checks))]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for check, thread in sorted(zip(checks, threads), key=lambda pair: SECONDS_EACH[pair[0].kind]):
        thread.join(max(0, began + SECONDS_EACH[check.kind] - time.monotonic()))
    return list(verdicts)


def verdict(check: Check) -> Verdict:
    """One check that goes out to the network."""
    try:
        return _KINDS[check.kind](check)
    except OSError as error:
        return Verdict(False, _reason(error))


def _tcp(check: Check) -> Verdict:
    socket.create_connection(place(check.target), timeout=SECONDS_EACH["tcp"]).close()
    return Verdict(True, "it takes connections")


def _dns(check: Check) -> Verdict:
    socket.getaddrinfo(check.target, None, family=_FAMILIES[check.expected])
    return Verdict(True, "it resolves")


def _http(check: Check) -> Verdict:
    """One request, straight to where the URL says: through no proxy, after no redirect. Only the status counts."""
    url = urlsplit(check.target)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        with contextlib.closing(_connection(url)) as connection:
            connection.request("GET", path, headers={"User-Agent": "serverflow", "Connection": "close"})
            status = connection.getresponse().status
    except http.client.HTTPException:
        return Verdict(False, "it does not speak HTTP")
    return Verdict(status == int(check.expected), f"it answered {status}")


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    """With the port always said: without one, http.client takes the end of an IPv6 address for it."""
    host, seconds = url.hostname or "", SECONDS_EACH["http"]
    if url.scheme == "https":
        return http.client.HTTPSConnection(host, url.port or 443, timeout=seconds, context=_tls(host))
    return http.client.HTTPConnection(host, url.port or 80, timeout=seconds)


def _tls(host: str) -> ssl.SSLContext:
    """Certificates count by the system's store; on the server itself they are seldom made out to that name."""
    context = ssl.create_default_context()
    if host in _LOCAL:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    """In our words or the library's; nothing that the other side chose."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not count: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as it should"
    return error.strerror or "no answer in time"


_KINDS: dict[str, Callable[[Check], Verdict]] = {"tcp": _tcp, "http": _http, "dns": _dns}
