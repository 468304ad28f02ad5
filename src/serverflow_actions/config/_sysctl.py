"""What may stand in sysctl.d(5), and the step that puts it in force.

None of the values names a program. Each can be set back, brings back what it took, and leaves enough of the machine for
the way back itself: memory, processes, open files, local sockets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..kit import Change, Host, HostError, Probe
from ..kit.change import differing
from ..kit.steps import File
from ..kit.undo import Footprint
from ._content import refusal, statements

_SWITCH = range(2)
_ANY = 1 << 31
#: What each may be. Of `net` others may be set too. The lower bounds are the kernel's defaults.
_BOUNDS: Mapping[str, range] = {
    "kernel.panic": range(-1, _ANY),
    "kernel.panic_on_oops": _SWITCH,
    "kernel.kptr_restrict": range(3),
    "kernel.dmesg_restrict": _SWITCH,
    "kernel.perf_event_paranoid": range(-1, 5),
    "kernel.randomize_va_space": range(3),
    "kernel.sysrq": range(512),
    # From 1, and from 3, there is no way back but a start of the machine.
    "kernel.unprivileged_bpf_disabled": range(0, 3, 2),
    "kernel.yama.ptrace_scope": range(3),
    # 2 (no overcommitting) can end every program that asks for memory, ours as well.
    "vm.overcommit_memory": range(2),
    "vm.swappiness": range(201),
    "vm.vfs_cache_pressure": range(1, 1001),
    "vm.dirty_ratio": range(1, 101),
    "vm.dirty_background_ratio": range(1, 101),
    "vm.dirty_expire_centisecs": range(1, 360_001),
    "vm.dirty_writeback_centisecs": range(1, 360_001),
    "vm.max_map_count": range(65530, _ANY),
    "vm.page-cluster": range(8),
    "vm.panic_on_oom": _SWITCH,
    "vm.oom_dump_tasks": _SWITCH,
    "vm.oom_kill_allocating_task": _SWITCH,
    "vm.zone_reclaim_mode": range(8),
    "vm.watermark_scale_factor": range(10, 1001),
    "vm.compaction_proactiveness": range(101),
    "vm.stat_interval": range(1, 301),
    "vm.unprivileged_userfaultfd": _SWITCH,
    # With fewer, units do not even start (LimitNOFILE of systemd.exec(5)).
    "fs.nr_open": range(1 << 20, _ANY),
    "fs.file-max": range(1 << 20, 1 << 63),
    "fs.aio-max-nr": range(65536, _ANY),
    "fs.inotify.max_user_watches": range(8192, _ANY),
    "fs.inotify.max_user_instances": range(128, _ANY),
    "fs.inotify.max_queued_events": range(16384, _ANY),
    # These count for local sockets too, as systemd's own.
    "net.core.somaxconn": range(128, _ANY),
    "net.core.optmem_max": range(20480, _ANY),
    **{f"net.core.{way}mem_{which}": range(65536, _ANY) for way in "rw" for which in ("default", "max")},
    "net.unix.max_dgram_qlen": range(10, _ANY),
}
#: Of net.ipv6.conf. Others (disable_ipv6, forwarding, accept_ra, autoconf, addr_gen_mode, mtu …) make the kernel drop
#: addresses or routes, or let them run out: the old value does not bring them back.
_IPV6 = (
    "accept_redirects", "accept_source_route", "drop_unicast_in_l2_multicast", "drop_unsolicited_na", "hop_limit",
    "ndisc_notify", "proxy_ndp", "suppress_frag_ndisc",
)  # fmt: skip
#: Cannot be turned off again; drops the labels' routes.
_NO_WAY_BACK = re.compile(r"net\.(?:netfilter\.nf_hooks_lwtunnel\Z|mpls\.)")
#: A slash stands for a dot in a name, as in net.ipv4.conf.eth0/100.forwarding, and never beside another one.
_PART = "[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*"
_NET = re.compile(rf"net\.{_PART}(?:\.{_PART})*\Z", re.ASCII)
#: The kernel takes what begins with a zero for octal.
_NUMBER = "-?(?:0|[1-9][0-9]{0,19})"
_NUMBERS = re.compile(rf"{_NUMBER}(?:[ \t]+{_NUMBER})*\Z", re.ASCII)
#: Of the network some are names (tcp_congestion_control) or ranges (ip_local_reserved_ports).
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_,.:-]{0,200}\Z", re.ASCII)


def check(content: str) -> None:
    """Raises Refused."""
    for _ in _settings(content):
        pass


def _settings(content: str) -> Iterator[tuple[int, str, str]]:
    """Line, key and value of each."""
    for number, line in statements(content, "#;"):
        key, equals, value = (part.strip(" \t") for part in line.partition("="))
        if not equals:
            raise refusal(number, "is not of the form `key = value`")
        if key in _BOUNDS:
            fits = bool(re.match(rf"{_NUMBER}\Z", value, re.ASCII)) and int(value) in _BOUNDS[key]
        elif _NET.match(key):
            _check_way_back(number, key)
            fits = bool(_NUMBERS.match(value) or _WORDS.match(value))
        else:
            raise refusal(number, f"{key[:60]} is not among the keys that may be set here")
        if not fits:
            raise refusal(number, f"{value[:60]} is no value that {key} may have here")
        yield number, key, value


def _check_way_back(number: int, key: str) -> None:
    parts = key.split(".")
    if parts[1:3] == ["ipv6", "conf"] and parts[-1] not in _IPV6:
        raise refusal(number, f"{key[:80]} can cost addresses or routes, which the old value does not bring back")
    if _NO_WAY_BACK.match(key):
        raise refusal(number, f"{key[:80]} cannot be set back")


@dataclass(frozen=True)
class KernelValues:
    """The values of our file, in force: due because the file changes in this plan, or because one is another by now.

    No other file is applied: what Docker and others have set since the start stays. Those of the network are not seen
    from the sandbox, which has one of its own.
    """

    file: File
    due: bool
    #: By path below /proc/sys.
    wanted: Mapping[str, str] = field(default_factory=dict)

    def check(self, probe: Probe) -> Change | None:
        fields = self._differing(probe)
        return Change("run", "sysctl", self.file.path, fields) if self.due or fields else None

    def apply(self, host: Host) -> None:
        host.machine_do("sysctl")
        left = self._differing(host)
        if left:
            raise HostError(f"the kernel does not take {', '.join(f'{key} = {left[key][1]}' for key in left)}")

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=tuple(self.wanted))

    def _differing(self, probe: Probe) -> dict[str, tuple[str, str]]:
        seen = {path: value for path, value in self.wanted.items() if not path.startswith("/proc/sys/net/")}
        found = {path: (probe.read(path) or b"").decode("ascii", "replace").strip() for path in seen}
        return differing(found, seen) or {}


def in_force(probe: Probe, content: str, file: File) -> KernelValues:
    """The step that follows the file's; made before that is carried out.

    Raises Refused for a key that this kernel does not have, or whose value cannot be read and so not be put back.
    """
    wanted = {}
    for number, key, value in _settings(content):
        path = _path(key)
        state = probe.stat(path)
        # The sandbox has a network of its own, without this server's interfaces: those of net.* may well exist.
        if not state and not path.startswith("/proc/sys/net/"):
            raise refusal(number, f"this kernel has no {path}")
        if state and (state.kind != "file" or not state.mode & 0o400):
            raise refusal(number, f"{path} is no value that can be read and put back")
        wanted[path] = value
    return KernelValues(file, file.check(probe) is not None, wanted)


def _path(key: str) -> str:
    return "/proc/sys/" + key.translate({ord("."): "/", ord("/"): "."})
