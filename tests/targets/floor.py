"""Runs on a server, as root, beside the installed runner: enter one of its sandboxes by hand and try what must fail.

Standard library only, Python 3.9. Prints one JSON object. The first argument says which sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, "/usr/local/libexec/serverflow/current")
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE, CLONE3 = 56, 435  # x86-64
SIGCHLD, NEWUSER, NEWNS = 17, 0x10000000, 0x00020000


def refuse(number: int, error: int) -> None:
    """A system call fails from here on as it does where the kernel does not have it."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),
            (0x15, 0, 1, number),
            (0x06, 0, 0, 0x00050000 | error),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    assert LIBC.prctl(22, 2, header, 0, 0) == 0


def confined(work: Callable[[], dict[str, Any]], privileged: bool = True) -> Any:
    """What `work` returns, from inside a read's sandbox."""
    import confine

    source, sink = os.pipe()
    if not os.fork():
        try:
            confine.enter("serverflow-read", privileged, False, 256 << 20, 20)
            if not os.fork():
                os.write(sink, json.dumps({"effective": confine.effective(), **work()}).encode())
                os._exit(0)
            os.wait()
        except Exception as error:
            os.write(sink, json.dumps({"error": str(error)}).encode())
        finally:
            os._exit(0)
    os.close(sink)
    with open(source, "rb") as file:
        return json.loads(file.read())


def write(path: str) -> str:
    """Whether a file could be made."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "worked"


def read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def syscall(*arguments: int) -> str:
    result = LIBC.syscall(*(ctypes.c_long(each) for each in arguments))
    if result == 0:
        os._exit(0)  # the clone
    return "worked" if result > 0 else errno.errorcode[ctypes.get_errno()]


def reader() -> dict[str, Any]:
    """Writes, hidden files and new namespaces, from inside a read."""
    places = (
        "/",
        "/etc",
        "/usr",
        "/var",
        "/dev",
        "/dev/shm",
        "/run",
        "/run/lock",
        "/home",
        "/root",
        "/covered",
        "/mnt/a b",
    )
    lines = [line.split() for line in read("/proc/self/mountinfo").splitlines()]
    mounts = [fields[4] for fields in lines if "rw" in fields[5].split(",")]
    return {
        "written": [place for place in places if write(f"{place}/canary") == "worked"],
        "scratch": write("/tmp/canary"),
        "writable mounts": [path for path in mounts if path not in ("/tmp",) and write(f"{path}/canary") == "worked"],
        "hidden": {
            path: read(path) for path in (*glob.glob("/home/*/.ssh/*"), "/etc/letsencrypt/key", "/home/ana/.netrc")
        },
        "shadow": read("/etc/shadow"),
        "passwd": read("/home/ana/passwd"),
        "devices": read("/dev/null"),
        "clone": syscall(CLONE, SIGCHLD, 0, 0, 0, 0),
        "clone a user": syscall(CLONE, SIGCHLD | NEWUSER, 0, 0, 0, 0),
        "clone mounts": syscall(CLONE, SIGCHLD | NEWNS, 0, 0, 0, 0),
        "clone3": syscall(CLONE3, 0, 0),
        "a program": subprocess.run(["/usr/bin/id", "-un"], capture_output=True, text=True).stdout.strip(),
        "dumpable": LIBC.prctl(3, 0, 0, 0, 0),
    }


def old_kernel() -> Any:
    """The same where mount_setattr(2) is missing: before Linux 5.12."""
    refuse(442, errno.ENOSYS)
    return confined(reader)


def account() -> Any:
    """Start `inside` as the worker of an action of the account profile."""
    import sandbox

    manifest = {"profile": "account"}
    lines = sandbox.properties(manifest, ["/home"], "", 30, 256 << 20, "", "")
    argv = sandbox.systemd_run("floor-account", lines, ["/usr/bin/python3", "-IS", "-c", read(__file__), "inside"])
    said = subprocess.run(argv, capture_output=True, text=True)
    return json.loads(said.stdout) if said.stdout else {"error": said.stderr}


def inside() -> dict[str, Any]:
    """Any process's root, as it is and as each user."""
    import sandbox

    worked, effective = [], sandbox.effective(["/home"])
    for user in (0, 33, 65534):
        with_user = LIBC.setresuid(-1, user, -1) == 0
        if user and with_user:
            worked.append(f"become {user}")
        for pid in [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
            for path in ("etc/floor-canary", "tmp/floor-canary"):
                if write(f"/proc/{pid}/root/{path}") == "worked":
                    worked.append(f"{path} of {pid} as {user}")
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    return {
        "worked": worked,
        "effective": effective,
        "gap": sandbox.floor_gap(effective, {"profile": "account"}),
        "seen": len(seen),
    }


TRIES: dict[str, Callable[[], Any]] = {
    "read": lambda: confined(reader),
    "old": old_kernel,
    "account": account,
    "inside": inside,
}
print(json.dumps(TRIES[sys.argv[1]]()))
