"""What may stand in sysctl.d(5): values of the network, of memory, and a few others. None that names a program."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..kit import Probe, Refused
from ._content import refusal, statements

_KERNEL = (
    "pid_max", "threads-max", "panic", "panic_on_oops", "kptr_restrict", "dmesg_restrict", "perf_event_paranoid",
    "unprivileged_bpf_disabled", "yama.ptrace_scope", "randomize_va_space", "sysrq",
)  # fmt: skip
_FILES = ("file-max", "nr_open", "aio-max-nr")
#: A slash stands for a dot in a name, as in net.ipv4.conf.eth0/100.forwarding, and never beside another one.
_PART = "[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*"
_KEY = re.compile(
    rf"(?:net\.{_PART}(?:\.{_PART})*|vm\.[a-z0-9_]+|fs\.inotify\.[a-z0-9_]+"
    rf"|fs\.(?:{'|'.join(_FILES)})|kernel\.(?:{'|'.join(map(re.escape, _KERNEL))}))\Z",
    re.ASCII,
)
_NUMBERS = re.compile(r"-?[0-9]{1,20}(?:[ \t]+-?[0-9]{1,20})*\Z", re.ASCII)
#: Of the network some are names (tcp_congestion_control) or ranges (ip_local_reserved_ports).
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_,.:-]{0,200}\Z", re.ASCII)


def check(content: str) -> None:
    """Raises Refused."""
    for _ in _settings(content):
        pass


def _settings(content: str) -> Iterator[tuple[int, str]]:
    for number, line in statements(content, "#;"):
        key, equals, value = (part.strip(" \t") for part in line.partition("="))
        if not equals:
            raise refusal(number, "is not of the form `key = value`")
        if not _KEY.match(key):
            raise refusal(number, f"{key[:60]} is not among the keys that may be set here")
        if not _NUMBERS.match(value) and not (key.startswith("net.") and _WORDS.match(value)):
            raise refusal(number, f"{value[:60]} is no value that {key} may have here")
        yield number, key


def values(probe: Probe, content: str, before: str) -> tuple[str, ...]:
    """The kernel's values that are set, and those that were until now, as paths: what a safe change has to keep.

    Raises Refused for a key that this kernel does not have, or whose value cannot be read and so not be put back.
    """
    found = {_path(key): number for number, key in _settings(content)}
    for path, number in found.items():
        state = probe.stat(path)
        # The sandbox has a network of its own, without this server's interfaces: those of net.* may well exist.
        if not state and not path.startswith("/proc/sys/net/"):
            raise refusal(number, f"this kernel has no {path}")
        if state and (state.kind != "file" or not state.mode & 0o400):
            raise refusal(number, f"{path} is no value that can be read and put back")
    try:
        earlier = [_path(key) for _, key in _settings(before)]
    except Refused:  # written by hand: what we cannot read we do not keep
        earlier = []
    return tuple(dict.fromkeys([*found, *earlier]))


def _path(key: str) -> str:
    return "/proc/sys/" + key.translate({ord("."): "/", ord("/"): "."})
