"""The system call filter of reads, as a classic BPF program: seccomp(2)."""

from __future__ import annotations

import struct

#: Denied with EPERM: ways to more privilege, other processes, the kernel, and new namespaces.
_DENIED = {
    "x86_64": {
        "ptrace": 101, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308, "unshare": 272,
        "bpf": 321,
        "perf_event_open": 298, "add_key": 248, "request_key": 249, "keyctl": 250, "kexec_load": 246,
        "kexec_file_load": 320,
        "init_module": 175, "finit_module": 313, "delete_module": 176, "process_vm_readv": 310,
        "process_vm_writev": 311,
        "userfaultfd": 323, "io_uring_setup": 425, "open_by_handle_at": 304, "reboot": 169, "swapon": 167,
        "settimeofday": 164,
        "clock_settime": 227, "acct": 163, "quotactl": 179, "iopl": 172, "ioperm": 173, "personality": 135,
        "open_tree": 428,
        "move_mount": 429, "fsopen": 430, "mount_setattr": 442, "pidfd_getfd": 438,
    },
    "aarch64": {
        "ptrace": 117, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268, "unshare": 97,
        "bpf": 280,
        "perf_event_open": 241, "add_key": 217, "request_key": 218, "keyctl": 219, "kexec_load": 104,
        "kexec_file_load": 294,
        "init_module": 105, "finit_module": 273, "delete_module": 106, "process_vm_readv": 270,
        "process_vm_writev": 271,
        "userfaultfd": 282, "io_uring_setup": 425, "open_by_handle_at": 265, "reboot": 142, "swapon": 224,
        "settimeofday": 170,
        "clock_settime": 112, "acct": 89, "quotactl": 60, "personality": 92, "open_tree": 428, "move_mount": 429,
        "fsopen": 430,
        "mount_setattr": 442, "pidfd_getfd": 438,
    },
}  # fmt: skip
_SOCKET = {"x86_64": 41, "aarch64": 198}
_CLONE = {"x86_64": 56, "aarch64": 220}
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: clone(2).
_NEW_NAMESPACES = 0x7E020000
_CLONE3 = 435
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38


def program_for(machine: str, network: bool = False) -> bytes | None:
    """The filter as struct sock_filter[]; None on a machine whose system call numbers we do not know.

    Of sockets it leaves AF_UNIX, for D-Bus and the journal, and with `network` AF_INET and AF_INET6.
    """
    if machine not in _DENIED:
        return None
    load, jump_equal, jump_if_any_bit, ret = 0x20, 0x15, 0x45, 0x06
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),  # seccomp_data.arch: another ABI could smuggle in other numbers
        (jump_equal, 1, 0, _AUDIT_ARCH[machine]),
        (ret, 0, 0, _KILL),
        (load, 0, 0, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":
        program += [(0x35, 0, 1, 0x40000000), (ret, 0, 0, _KILL)]  # the x32 ABI
    # clone3's flags lie behind a pointer that a filter cannot follow; libc falls back to clone on ENOSYS.
    program += [(jump_equal, 0, 1, _CLONE3), (ret, 0, 0, _ERRNO | _ENOSYS)]
    for number in sorted(_DENIED[machine].values()):
        program += [(jump_equal, 0, 1, number), (ret, 0, 0, _ERRNO | _EPERM)]
    families = (1, 2, 10) if network else (1,)
    program += [
        (jump_equal, 0, 4, _CLONE[machine]),
        (load, 0, 0, 16),  # args[0], its low half: the flags
        (jump_if_any_bit, 0, 1, _NEW_NAMESPACES),
        (ret, 0, 0, _ERRNO | _EPERM),
        (ret, 0, 0, _ALLOW),
        (jump_equal, 0, len(families) + 2, _SOCKET[machine]),
        (load, 0, 0, 16),  # args[0]: the address family
        *((jump_equal, len(families) - number, 0, family) for number, family in enumerate(families)),
        (ret, 0, 0, _ERRNO | _EPERM),
        (ret, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
