"""The grammars of outside values. Each function takes what came in and returns the checked value, or raises ValueError.

None of them accepts a leading dash, so that no value can be read as an option by the program that gets it; the one
exception is `document`, which is content and never an argument.
"""

from __future__ import annotations

import base64
import binascii
import re
from re import Match
from typing import Any, Callable

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _matcher(pattern: str, what: str, longest: int = 255) -> Callable[[Any], str]:
    whole = rf"(?:{pattern})\Z"  # compiled at its first use: one command needs a few of these at most

    def check(raw: Any) -> str:
        if (
            not isinstance(raw, str)
            or len(raw) > longest
            or not re.match(whole, raw, re.ASCII)
            or not raw.isprintable()
        ):
            raise ValueError(f"{_shown(raw)} is not {what}")
        return raw

    return check


def _shown(raw: Any) -> str:
    text = raw if isinstance(raw, str) else repr(raw)
    return ascii(text[:60])


def _whole(raw: Any, pattern: str, what: str) -> Match[str]:
    match = re.match(rf"(?:{pattern})\Z", raw, re.ASCII) if isinstance(raw, str) and raw.isprintable() else None
    if not match:
        raise ValueError(f"{_shown(raw)} is not {what}")
    return match


def text(raw: Any) -> str:
    """One line of printable text, at most 1024 characters, no leading dash."""
    if not isinstance(raw, str) or len(raw) > 1024 or not raw.isprintable() or raw.startswith("-"):
        raise ValueError(f"{_shown(raw)} is not one line of printable text without a leading dash")
    return raw


def document(raw: Any) -> str:
    """Text of several lines, at most 32 KiB, without control characters other than tab and newline."""
    if (
        not isinstance(raw, str)
        or len(raw) > 32768
        or any(ord(c) < 32 and c not in "\t\n" for c in raw)
        or "\x7f" in raw
    ):
        raise ValueError("must be text of at most 32 KiB without control characters")
    return raw


def integer(raw: Any) -> int:
    """A whole number from 0 to 10^18 - 1; decimal digits when it comes as text."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    return int(_whole(raw, r"[0-9]{1,18}", "a whole number").group())


def port(raw: Any) -> int:
    """A TCP or UDP port, 1 to 65535."""
    value = integer(raw)
    if not 1 <= value <= 65535:
        raise ValueError(f"{value} is not a port (1 to 65535)")
    return value


def boolean(raw: Any) -> bool:
    """true or false."""
    if raw is True or raw == "true":
        return True
    if raw is False or raw == "false":
        return False
    raise ValueError(f"{_shown(raw)} is not true or false")


def size(raw: Any) -> int:
    """Bytes, written as `256MiB` (IEC 80000-13 prefixes). A bare number is refused: nobody can tell its unit."""
    match = _whole(raw, r"([0-9]{1,9})(B|KiB|MiB|GiB|TiB)", "a size such as 256MiB")
    return int(match.group(1)) * _UNITS[match.group(2)]


def duration(raw: Any) -> int:
    """Seconds, written as `30s`, `5m`, `2h` or `7d`. A bare number is refused."""
    match = _whole(raw, r"([0-9]{1,9})([smhd])", "a duration such as 30s, 5m, 2h or 7d")
    return int(match.group(1)) * _SECONDS[match.group(2)]


def unit(raw: Any) -> str:
    """A systemd unit name (systemd.unit(5)); `.service` is added when there is no suffix."""
    suffixes = "service|socket|timer|target|path|mount|slice|scope|swap|automount|device"
    name = str(_whole(raw, r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,200}", "a unit name").group())
    if ".." in name:
        raise ValueError(f"{_shown(raw)} is not a unit name")
    return name if re.search(rf"\.({suffixes})\Z", name) else name + ".service"


def path(raw: Any) -> str:
    """An absolute path without empty, `.` or `..` parts and without control characters."""
    if not isinstance(raw, str) or not raw.startswith("/") or len(raw) > 1024 or not raw.isprintable():
        raise ValueError(f"{_shown(raw)} is not an absolute path")
    if raw != "/" and any(part in ("", ".", "..") for part in raw[1:].split("/")):
        raise ValueError(f"{_shown(raw)} has an empty, . or .. part")
    return raw


def relpath(raw: Any) -> str:
    """A path, absolute or relative, without empty, `.` or `..` parts, control characters or a leading dash."""
    if not isinstance(raw, str) or not raw or raw.startswith(("-", "/")):
        return path(raw)
    return path("/" + raw)[1:]


def cidr(raw: Any) -> str:
    """An IPv4 or IPv6 address or network in its usual form; host bits of a network are cleared."""
    import ipaddress  # costs a few milliseconds that most actions need not spend

    try:
        text = str(_whole(raw, r"[0-9a-fA-F:.]{2,45}(?:/[0-9]{1,3})?", "an address or network").group())
        return str(ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{_shown(raw)} is not an address or network") from None


def address(raw: Any) -> str:
    """An IPv4 or IPv6 address in its usual form."""
    if isinstance(raw, str) and "/" in raw:
        raise ValueError(f"{_shown(raw)} is a network, not an address")
    return cidr(raw)


def rule(raw: Any) -> str:
    """What a firewall is told, `PORT[-PORT]/tcp|udp [from NETWORK]`, in its usual form."""
    pattern = r"([0-9]{1,5})(?:-([0-9]{1,5}))?/(tcp|udp)(?: from ([0-9a-fA-F:./]{2,49}))?"
    match = _whole(raw, pattern, "a firewall rule such as 443/tcp or 8000-8100/udp from 10.0.0.0/8")
    first, last = port(match.group(1)), port(match.group(2) or match.group(1))
    if first > last:
        raise ValueError(f"{_shown(raw)} is no range of ports: {first} is more than {last}")
    ports = str(first) if first == last else f"{first}-{last}"
    return f"{ports}/{match.group(3)}" + (f" from {cidr(match.group(4))}" if match.group(4) else "")


def sshkey(raw: Any) -> str:
    """A public key as in authorized_keys(5), `TYPE BASE64 [COMMENT]`: options and unknown types are refused."""
    match = _whole(
        raw,
        r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
        r" ([A-Za-z0-9+/]{32,4096}={0,2})(?: ([^\x00-\x1f\x7f]{1,128}))?",
        "an SSH public key",
    )
    kind, encoded = match.group(1), match.group(2)
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("the key's base64 is damaged") from None
    if blob[: 4 + len(kind)] != len(kind).to_bytes(4, "big") + kind.encode():
        raise ValueError("the key's type does not match its content")
    return str(match.group())


def schedule(raw: Any) -> str:
    """When a job runs, five fields of crontab(5) or `@daily` and the like, in one spelling."""
    from . import schedule as schedules  # needed by cron alone

    return schedules.parse(raw).text


def domain(raw: Any) -> str:
    """A DNS name of a zone or a key, as `acme.app` or `acme.app.`: absolute, in lower case, with the final dot."""
    from .rdata.names import fqdn  # needed by DNS alone

    name = fqdn(raw)
    if name.startswith("*"):
        raise ValueError(f"{_shown(raw)} is a wildcard, and names no zone or key")
    return name


def eventrule(raw: Any) -> str:
    """Which events a channel gets, `GLOB [SEVERITY]`, in its usual form."""
    from . import events

    return events.rule(raw).text


def routehost(raw: Any) -> str:
    """A host name, or `*.` and one."""
    from . import route  # needed by routes alone, as are the next three

    return route.host(raw)


def target(raw: Any) -> str:
    """Where a route leads to: a port, ADDRESS:PORT, `unix:` and a socket, a folder, or an app."""
    from . import route

    return route.target(raw)


def location(raw: Any) -> str:
    """`PREFIX TARGET`, as `/api 3001`."""
    from . import route

    return route.location(raw)


def rate(raw: Any) -> str:
    """Requests in a time, `10/s` or `600/m`."""
    from . import route

    return route.rate(raw)


label = _matcher(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", "a name (a-z, 0-9 and -, at most 63 characters, as a DNS label)", 63
)
name = _matcher(
    r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", "a name (a-z, 0-9 and -, starting with a letter, at most 32 characters)", 32
)
username = _matcher(r"[a-z_][a-z0-9_-]{0,31}", "a user name (useradd(8))", 32)
# apt-get reads a trailing dash as "remove it".
package = _matcher(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9]+)?", "a package name (Debian Policy 5.6.1)", 128)
hostname = _matcher(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    "a host name (RFC 1123)",
    253,
)
action = _matcher(
    r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\.[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "an action such as service.restart", 64
)
timezone = _matcher(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}", "a time zone such as Europe/Paris", 64)
mode = _matcher(r"0?[0-7]{3}", "a file mode such as 0640", 4)
ulid = _matcher(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", "an operation id", 26)
sha256 = _matcher(r"[0-9a-f]{64}", "a SHA-256 hash", 64)
fingerprint = _matcher(r"SHA256:[A-Za-z0-9+/]{43}", "a key's fingerprint as `ssh-keygen -l` prints it", 50)
gecos = _matcher(r"[^\x00-\x1f\x7f:,=-][^\x00-\x1f\x7f:,=]{0,126}", "a person's name or a remark without : , =", 127)

TYPES: dict[str, Callable[[Any], Any]] = {
    "text": text, "document": document, "integer": integer, "port": port, "boolean": boolean, "size": size,
    "duration": duration, "unit": unit, "path": path, "relpath": relpath, "sshkey": sshkey, "fingerprint": fingerprint,
    "label": label, "name": name, "username": username, "gecos": gecos, "package": package, "hostname": hostname,
    "timezone": timezone, "mode": mode, "ulid": ulid, "sha256": sha256, "cidr": cidr, "address": address,
    "rule": rule, "schedule": schedule, "action": action, "eventrule": eventrule,
    "domain": domain,
    "routehost": routehost, "target": target, "location": location, "rate": rate,
}  # fmt: skip
