"""What a hostile action would try from inside its sandbox. Sent to a server in a bundle, as
`serverflow_actions.hostile`.

Standard library only, Python 3.9. Each act returns when it worked, and raises OSError (or what the broker raises) when
it was refused. None does harm where it works, but for one file or process that the test looks for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from typing import Any, NoReturn

Act = Callable[[Any], object]

#: x86-64; the arguments are wrong on purpose, so that a kernel that lets the call in answers EINVAL, EFAULT or EBADF.
SYSCALLS: dict[str, tuple[int, ...]] = {
    "ptrace": (101, 16, 1, 0, 0), "mount": (165, 0, 0, 0, 0, 0), "umount2": (166, 0, 0), "pivot_root": (155, 0, 0),
    "setns": (308, -1, 0), "unshare": (272, 0x10000000), "bpf": (321, -1, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0), "init_module": (175, 0, 0, 0), "finit_module": (313, -1, 0, 0),
    "delete_module": (176, 0, 0), "kexec_load": (246, 0, -1, 0, -1), "process_vm_writev": (311, 1, 0, 0, 0, 0, -1),
    "open_by_handle_at": (304, -1, 0, 0), "reboot": (169, 0, 0, 0, 0), "swapon": (167, 0, 0),
    "clock_settime": (227, 0, 0), "chroot": (161, 0), "iopl": (172, 9), "move_mount": (429, -1, 0, -1, 0, -1),
    "mount_setattr": (442, -1, 0, -1, 0, 0), "userfaultfd": (323, -1), "io_uring_setup": (425, 0, 0),
    "fsopen": (430, 0, 0), "open_tree": (428, -1, 0, 0x1000), "pidfd_getfd": (438, -1, 0, 0), "acct": (163, 1),
    "settimeofday": (164, 1, 0), "kexec_file_load": (320, -1, -1, 0, 0, 0), "quotactl": (179, -1, 0, 0, 0),
}  # fmt: skip


def _write(path: str) -> Act:
    def act(probe: Any) -> None:
        with open(path, "a") as file:
            if os.fstat(file.fileno()).st_rdev == os.makedev(1, 3):
                raise OSError("/dev/null lies over it")

    return act


def _make(path: str) -> Act:
    def act(probe: Any) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    return act


def _read(path: str) -> Act:
    def act(probe: Any) -> None:
        with open(path, "rb") as file:
            if not file.read(1):
                raise OSError("nothing in it")

    return act


def _connect(path: str) -> Act:
    def act(probe: Any) -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)

    return act


def _socket(family: int, kind: int = socket.SOCK_DGRAM) -> Act:
    return lambda probe: socket.socket(family, kind).close()


def _syscall(*arguments: int) -> Act:
    def act(probe: Any) -> NoReturn:
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.syscall(*(ctypes.c_long(each) for each in arguments))
        if result == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
            raise OSError("refused")
        raise AssertionError("the kernel let it in")

    return act


def _signal_others(probe: Any) -> list[int]:
    """Anyone who is not of this sandbox: process 1, the runner, the executor."""
    reached = []
    for pid in {1, os.getppid(), *_pids()} - {0, os.getpid()}:
        try:
            os.kill(pid, 0)
            reached.append(pid)
        except OSError:
            continue
    # In a process namespace of its own, 1 is itself.
    if reached and reached != [1]:
        return reached
    raise OSError("none reached")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environments_of_others(probe: Any) -> int:
    with open("/proc/self/environ", "rb") as file:
        mine = file.read()
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if file.read() not in (mine, b""):
                    return pid
        except OSError:
            continue
    raise OSError("none")


def _device(probe: Any) -> None:
    path = _somewhere("device")
    os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(8, 0))


def _setuid_file(probe: Any) -> None:
    path = _somewhere("setuid")
    with open(path, "wb"):
        os.chmod(path, 0o4755)
    if os.statvfs(path).f_flag & os.ST_NOSUID or not os.stat(path).st_mode & stat.S_ISUID:
        raise OSError("it is worth nothing here")


def _somewhere(name: str) -> str:
    for folder in ("/srv/hostile", "/srv/shop", "/tmp"):
        if os.access(folder, os.W_OK):
            return f"{folder}/{name}-{os.getpid()}"
    raise OSError("nowhere to write")


def _become_root(probe: Any) -> None:
    if os.getuid() == 0:
        raise OSError("it is")
    os.setuid(0)


def _by_setuid_program(probe: Any) -> None:
    if os.getuid() == 0:
        raise OSError("it is root already, without root's powers")
    said = subprocess.run(["/usr/bin/su", "-c", "id"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    if b"uid=0" not in said.stdout:
        raise OSError("refused")


def _by_the_bus(*argv: str) -> Act:
    def act(probe: Any) -> None:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
        if done.returncode:
            raise OSError("refused")

    return act


def _memory_of_others(probe: Any) -> int:
    for pid in set(_pids()) - {os.getpid()}:
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
        except OSError:
            continue
        # In a process namespace of its own, 1 is itself.
        if pid != 1:
            return pid
    raise OSError("none")


def _abstract_socket(probe: Any) -> None:
    """One that listens outside, in the abstract namespace: no file system hides it (unix(7))."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("\0canary")


def _file_capability(probe: Any) -> None:
    path = _somewhere("capable")
    with open(path, "wb"):
        os.setxattr(path, "security.capability", bytes.fromhex("0100000200002000000000000000000000000000"))


def _own_limits(probe: Any) -> None:
    with open("/proc/self/cgroup") as file:
        path = file.read().splitlines()[-1].split(":", 2)[2]
    for name in "memory/{}/memory.limit_in_bytes", "{}/memory.max", "pids/{}/pids.max":
        full = "/sys/fs/cgroup/" + name.format(path.strip("/"))
        if os.path.exists(full):
            with open(full, "r+") as file:
                file.write("max")
            return
    raise OSError("not to be seen")


def _ask(verb: str, **arguments: Any) -> Act:
    def act(probe: Any) -> None:
        broker = getattr(probe, "_broker", None)
        if broker is None:
            raise OSError("no broker")
        broker.call(verb, **arguments)

    return act


ACTS: dict[str, Act] = {
    **{f"read {path}": _read(path) for path in (
        "/var/lib/serverflow/identity", "/var/lib/serverflow/receipts.chain", "/run/serverflow/boot",
        "/root/.ssh/authorized_keys", "/dev/sda", "/dev/mem", "/dev/kmsg", "/proc/kcore",
        "/proc/1/root/var/lib/serverflow/identity", "/home/admin/.ssh/id_canary", "/etc/ssh/ssh_host_ed25519_key",
        "/etc/shadow", "/etc/gshadow", "/srv/bank/canary", "/dev/fuse", "/dev/net/tun", "/dev/kvm",
    )},
    **{f"write {path}": _write(path) for path in (
        "/etc/passwd", "/etc/shadow", "/etc/sudoers", "/etc/ssh/sshd_config", "/etc/ssh/serverflow_authorized_keys",
        "/etc/serverflow/server_id", "/usr/local/libexec/serverflow/runner",
        "/usr/local/libexec/serverflow/current/verify.py", "/var/lib/serverflow/receipts.chain",
        "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/root/etc/passwd", "/bin/sh",
        "/usr/lib/os-release", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/hostname", "/sys/power/state",
        "/sys/kernel/uevent_helper", "/srv/bank/canary", "/home/admin/.ssh/id_canary",
    )},
    **{f"make {path}": _make(path) for path in (
        "/canary", "/etc/cron.d/canary", "/etc/systemd/system/canary.service", "/run/systemd/system/canary.service",
        "/usr/bin/canary", "/var/spool/cron/crontabs/canary", "/root/canary", "/var/lib/canary", "/boot/canary",
        "/run/canary", "/srv/bank/new", "/home/admin/new", "/sys/fs/cgroup/canary",
    )},
    **{f"connect to {path}": _connect(path) for path in (
        "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/io.systemd.journal",
        "/run/docker.sock", "/run/systemd/io.system.ManagedOOM", "/run/systemd/userdb/io.systemd.DynamicUser",
    )},
    **{f"call {name}": _syscall(*arguments) for name, arguments in SYSCALLS.items() if os.uname().machine == "x86_64"},
    "an IPv4 socket": _socket(socket.AF_INET),
    "an IPv6 socket": _socket(socket.AF_INET6),
    "a netlink socket": _socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a packet socket": _socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a vsock": _socket(40, socket.SOCK_STREAM),
    "signal others": _signal_others,
    "the environment of others": _environments_of_others,
    "the memory of others": _memory_of_others,
    "an abstract socket": _abstract_socket,
    "a device node": _device,
    "a setuid file": _setuid_file,
    "a file with capabilities": _file_capability,
    "a control group": lambda probe: os.mkdir("/sys/fs/cgroup/canary"),
    "become root": _become_root,
    "root by a setuid program": _by_setuid_program,
    "a restart over the bus": _by_the_bus("systemctl", "--no-ask-password", "restart", "cron"),
    "a unit over the bus": _by_the_bus("systemd-run", "--no-ask-password", "--quiet", "touch", "/canary"),
    "a new host name": lambda probe: socket.sethostname("canary"),
    "wider limits": _own_limits,
    "the broker: restart a unit": _ask("unit", action="restart", unit="cron.service"),
    "the broker: stop ssh": _ask("unit", action="stop", unit="ssh.service"),
    "the broker: a package": _ask("package", action="install", names=["htop"]),
    "the broker: an option": _ask("package", action="install", names=["-oDPkg::Pre-Invoke::=id"]),
    "the broker: a user": _ask("account", action="user-add", name="mallory"),
    "the broker: reboot": _ask("machine", action="reboot", value=""),
    "the broker: a host name": _ask("machine", action="hostname", value="canary"),
    "the broker: a command": _ask("run", argv=["id"]),
    "the broker: a private method": _ask("_run", argv=["id"], timeout=1),
}  # fmt: skip


def attempts(probe: Any) -> dict[str, Any]:
    """Act by act: what worked, in words; acts that were refused are left out."""
    worked = {}
    for name, act in ACTS.items():
        try:
            worked[name] = f"worked: {act(probe)}"
        except AssertionError as error:
            worked[name] = str(error)
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__name__ != "HostError":
                worked[name] = f"{type(error).__name__}: {error}"
    return {"tried": len(ACTS), "worked": worked}


# --- too much of something -------------------------------------------------------------------------------------------


def flood(probe: Any) -> NoReturn:
    """More output than anyone wants."""
    while True:
        os.write(2, b"x" * 65536)


def flood_of_frames(probe: Any) -> NoReturn:
    """The same by way of progress."""
    while True:
        probe._broker.send({"t": "step", "doing": "x" * 60_000})


CHILDREN: list[int] = []  # a task's plan runs twice, first as a forecast


def forks(probe: Any) -> dict[str, int]:
    """As many processes as there may be, none of which ends by itself."""
    while True:
        try:
            child = os.fork()
        except OSError:
            return {"processes": len(CHILDREN)}
        if child == 0:
            os.setsid()
            while True:
                time.sleep(60)
        CHILDREN.append(child)


def memory(probe: Any) -> NoReturn:
    """More memory than there may be."""
    hoard = []
    while True:
        hoard.append(os.urandom(1 << 20))


def sleeper(probe: Any) -> NoReturn:
    """One that ignores what it may ignore, in a session of its own, and one who waits for it."""
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
    while True:
        time.sleep(60)


WATCHED = (
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/.ssh_host_ed25519_key.new",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/shadow-",
)


def watches(probe: Any) -> dict[str, Any]:
    """Keys and passwords, looked for again and again while they are replaced outside; where it may, also by itself."""
    seen: set[str] = set()
    child = os.fork() if getattr(probe, "_broker", None) else -1
    if child == 0:
        _watch(seen)
        with open("/srv/hostile/seen", "a") as file:
            file.write("".join(f"{path}\n" for path in sorted(seen)))
        os._exit(0)
    for number in range(3):
        try:
            _ask("account", action="user-add", name=f"mallory{number}")(probe)
        except Exception:
            break
    _watch(seen)
    if child > 0:
        os.waitpid(child, 0)
    return {"seen": sorted(seen)}


def _watch(seen: set[str]) -> None:
    deadline = time.monotonic() + 50
    while not os.path.exists("/srv/hostile/over") and time.monotonic() < deadline:
        for path in WATCHED:
            try:
                _read(path)(None)
            except OSError:
                continue
            seen.add(path)


def lies(probe: Any) -> None:
    """The end of another run, without half of it."""
    probe._broker.send({"t": "end", "code": ["done"], "changes": "none"})
    time.sleep(60)


def garbage(probe: Any) -> None:
    """No frame at all."""
    probe._broker._sink.write(b"[" * 100_000 + b"\n")
    probe._broker._sink.flush()
    time.sleep(60)
