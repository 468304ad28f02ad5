"""Enrolment, on the server's side: what `sf server add` runs once as root over the administrator's own SSH access.

It arrives on standard input and is not kept. Each stage can be run again after an interruption at any point; the last
one is a safe change, so that a mistake in sshd's or sudo's configuration undoes itself.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import time
from typing import Any, BinaryIO, Callable

LIBEXEC = "/usr/local/libexec/serverflow"
STATE = "/var/lib/serverflow"
CONFIG = "/etc/serverflow"
RUN = "/run/serverflow"
DROP_IN = "/etc/ssh/sshd_config.d/00-serverflow.conf"
SUDOERS = "/etc/sudoers.d/serverflow"
KEYS = "/etc/ssh/serverflow_authorized_keys"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

STUB = f"""#!/usr/bin/python3 -IS
# The fixed entry point of serverflow; sudo allows this path, without arguments.
import os, sys
sys.path.insert(0, os.path.realpath("{LIBEXEC}/current"))
import runner
runner.main()
"""

# First in the folder, because sshd takes the first value that it finds for a keyword.
SSHD = f"""# Written by serverflow: its login may start the runner and nothing else.
Match User serverflow
    AuthorizedKeysFile {KEYS}
    AuthorizedKeysCommand none
    AuthorizedPrincipalsFile none
    TrustedUserCAKeys none
    AuthenticationMethods publickey
    PubkeyAuthentication yes
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    HostbasedAuthentication no
    GSSAPIAuthentication no
    AllowUsers serverflow
    AllowGroups serverflow
    ForceCommand sudo -n {LIBEXEC}/runner
    PermitTTY no
    PermitUserRC no
    PermitTunnel no
    PermitOpen none
    PermitListen none
    X11Forwarding no
    AllowTcpForwarding no
    AllowAgentForwarding no
    AllowStreamLocalForwarding no
"""

# For an sshd_config that reads no drop-ins: this one file, so that no other drop-in starts to count. leave.py knows it.
INCLUDE = f"Include {DROP_IN}\n"

# The "" after the path forbids arguments: the runner's local requests are not for this account. Of the environment the
# request comes through and nothing else: sudo would keep LC_* and more by itself (env_check, env_keep in sudoers(5)),
# and all of it where an administrator has turned env_reset off.
SUDO = f"""# Written by serverflow: its login may start the runner, without arguments.
Defaults!{LIBEXEC}/runner env_reset, env_keep = "SSH_ORIGINAL_COMMAND", !env_check, !requiretty, !use_pty, !pam_session
Defaults:serverflow !lecture
serverflow ALL=(root) NOPASSWD: {LIBEXEC}/runner ""
"""


class Failed(Exception):
    """A sentence for the operator."""


def run(*argv: str) -> str:
    """Raises Failed with what the program said."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise Failed(f"{argv[0]}: {said[-500:] or 'exit code ' + str(done.returncode)}")
    return done.stdout.decode("utf-8", "replace")


def _is_sound(*argv: str) -> bool:
    try:
        run(*argv)
    except Failed:
        return False
    return True


def write(path: str, text: str | bytes, mode: int) -> None:
    """Atomic, and only when it differs: a second run leaves times alone."""
    data = text.encode() if isinstance(text, str) else text
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == data and os.stat(path).st_mode & 0o777 == mode:
            return
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{secrets.token_hex(4)}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# --- stages ----------------------------------------------------------------------------------------------------------


def inspect(request: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    """Look, and change nothing: is this a server that we support, and is it enrolled already?"""
    release = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
    name, version = release.get("ID", "").strip('"'), release.get("VERSION_ID", "").strip('"')
    trust = sorted(int(n[:-5]) for n in _names(f"{CONFIG}/trust") if re.fullmatch(r"[0-9]+\.json", n))
    return {
        "root": os.getuid() == 0,
        "python": list(sys.version_info[:2]),
        "systemd": os.path.isdir("/run/systemd/system"),
        "os": name,
        "version": version,
        "name": release.get("PRETTY_NAME", "").strip('"'),
        "missing": [tool for tool, path in _TOOLS.items() if not os.path.exists(path)],
        "server_id": read(f"{CONFIG}/server_id").strip(),
        "fleet": json.loads(read(f"{CONFIG}/trust/{trust[-1]}.json"))["fleet"] if trust else "",
        "trust_version": trust[-1] if trust else 0,
        "bundle_version": _bundle_version(),
        "pending": read(f"{STATE}/safe/pending"),
        "hostname": os.uname().nodename,
    }


#: What the login needs, and where it shows that it is there. Package names equal tool names.
_TOOLS = {
    "sudo": "/usr/bin/sudo",
    "dbus": "/usr/bin/dbus-daemon",
    "openssh-server": "/usr/sbin/sshd",
    "openssh-client": "/usr/bin/ssh-keygen",
}


def install_tools(request: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    """After the operator said yes."""
    wanted = [tool for tool in _TOOLS if tool in request["tools"]]
    run("apt-get", "-q", "update")
    run("apt-get", "-q", "-y", "--no-install-recommends", "install", *wanted)
    if "dbus" in wanted:
        run("systemctl", "start", "dbus.socket")
    return {}


def place(request: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    """Users, folders, the server's own id and key, runner and registry. Harmless on its own: nothing can log in yet."""
    for step in (_folders, _users, _identity):
        step()
    manifest = base64.b64decode(request["manifest"])
    version, installed = request["version"], _bundle_version()
    # Versions only go up within a fleet. A server of no fleet takes ours, whatever it has: a stolen release key may
    # have brought it the highest there is.
    free = not _names(f"{CONFIG}/trust")
    if version > installed or (version == installed and _is_damaged(manifest)) or (free and version != installed):
        _bundle(request, manifest, source)
    if free:
        for other in _names(f"{LIBEXEC}/versions"):
            if other != str(version):
                shutil.rmtree(f"{LIBEXEC}/versions/{other}", ignore_errors=True)
    write(f"{LIBEXEC}/runner", STUB, 0o755)
    return {
        "server_id": read(f"{CONFIG}/server_id").strip(),
        # From the private half: a rotation that was cut off may have left the other file behind.
        "identity": " ".join(run("ssh-keygen", "-y", "-f", f"{STATE}/identity").split()[:2]),
    }


def _folders() -> None:
    for path, mode in (
        ("/usr/local/libexec", 0o755), (LIBEXEC, 0o755), (f"{LIBEXEC}/versions", 0o755),
        (CONFIG, 0o755), (f"{CONFIG}/trust", 0o755), (f"{CONFIG}/apps", 0o755),
        (f"{CONFIG}/firewall", 0o755),
        (STATE, 0o700), (f"{STATE}/ops", 0o700), (f"{STATE}/safe", 0o700), (f"{STATE}/blobs", 0o711),
        (f"{STATE}/applied", 0o700),
        (f"{STATE}/locks", 0o700), (f"{STATE}/home", 0o755),
    ):  # fmt: skip
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        os.chown(path, 0, 0)


def _users() -> None:
    """The password field is `*`: no password fits, and unlike `!` it does not make sshd with PAM refuse the account."""
    for name, shell, home in (
        ("serverflow", "/bin/sh", "/nonexistent"),
        ("serverflow-read", "/usr/sbin/nologin", "/nonexistent"),
    ):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            run(
                "useradd",
                "--system",
                "--no-create-home",
                "--home-dir",
                home,
                "--shell",
                shell,
                "--password",
                "*",
                "--user-group",
                "--comment",
                "ServerFlow",
                name,
            )
        else:
            if found.pw_uid == 0 or found.pw_uid >= 1000:
                raise Failed(f"a user {name} exists that is not ours (uid {found.pw_uid})")


def _identity() -> None:
    if not re.fullmatch(r"[0-9a-f]{64}\n", read(f"{CONFIG}/server_id")):
        write(f"{CONFIG}/server_id", secrets.token_hex(32) + "\n", 0o644)
    if not read(f"{STATE}/identity.pub"):
        # The public half is written last by ssh-keygen: without it the pair is not whole.
        for leftover in ("identity", "identity.pub"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{STATE}/{leftover}")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "serverflow identity", "-f", f"{STATE}/identity")


def _is_damaged(manifest: bytes) -> bool:
    """Whether a file of the installed version is missing or another one: running this again repairs it."""
    return any(
        hashlib.sha256(_bytes(f"{LIBEXEC}/current/{file['path']}")).hexdigest() != file["sha256"]
        for file in json.loads(manifest)["files"]
    )


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _bundle(request: dict[str, Any], manifest: bytes, source: BinaryIO) -> None:
    """Over the administrator's own access; from here on only signed bundles come in, over the runner."""
    version = request["version"]
    staging = f"{LIBEXEC}/versions/.{version}.enroll"
    shutil.rmtree(staging, ignore_errors=True)
    files = json.loads(manifest)["files"]
    for file in files:
        path = f"{staging}/{file['path']}"
        data = source.read(file["size"])
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise Failed("the connection ended while the runner was sent")
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        write(path, data, 0o644)
    write(f"{staging}/bundle.json", manifest, 0o644)
    write(f"{staging}/bundle.json.sig", request["signature"], 0o644)
    sys.path.insert(0, staging)
    import trust_store

    trust_store.compile_all(staging, version, [file["path"] for file in files])
    shutil.rmtree(f"{LIBEXEC}/versions/{version}", ignore_errors=True)
    os.rename(staging, f"{LIBEXEC}/versions/{version}")
    trust_store.switch(version)
    sys.path.remove(staging)


def arm(request: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    """What could lock out: trust, login keys, sudo and sshd, as a change that undoes itself unless confirmed.

    Nothing is armed where all of it stands already.
    """
    sys.path.insert(0, os.path.realpath(f"{LIBEXEC}/current"))
    import boot
    import messages
    import safe
    import store
    import trust_store

    safe.roll_back_pending()
    _not_another_fleet(request)
    try:
        run("sshd", "-t")
    except Failed as error:
        raise Failed(f"sshd's configuration is broken already: {error}") from None
    trust_files = {name: base64.b64decode(data) for name, data in request["trust"].items()}
    newest = max((name for name in trust_files if name.endswith(".json")), key=lambda name: int(name[:-5]))
    trust: messages.Trust = messages.parse_trust(trust_files[newest])
    if _names(f"{CONFIG}/trust"):
        # Trust only goes up, and the login keys follow from it: neither is part of what can be undone.
        trust_store.write_trust_files(trust_files)
        trust = trust_store.current()
        if os.path.exists(DROP_IN):
            write(KEYS, trust_store.login_keys(trust), 0o644)
        if _is_open():
            return {"armed": False}
        claimed = []
    else:
        claimed = [f"{CONFIG}/trust/{name}" for name in sorted(trust_files)]
    boot.keep()
    store.boot_marker()
    store.keep_ballast()
    op_id = request["op_id"]
    files = [SUDOERS, DROP_IN, KEYS, "/etc/ssh/sshd_config", *claimed]

    def apply() -> None:
        if claimed:
            trust_store.write_trust_files(trust_files)
        _open_login(trust_store.login_keys(trust))

    try:
        safe.change(op_id, "server.add", files, ["reload-ssh"], request["seconds"], apply)
    except safe.Unsafe as error:
        raise Failed(str(error)) from error
    return {"armed": True}


def _is_open() -> bool:
    """Whether an enrolment was finished before, and nothing of it was touched since."""
    wanted = ((SUDOERS, SUDO, 0o440), (DROP_IN, SSHD, 0o644))
    if any(read(path) != text or os.stat(path).st_mode & 0o777 != mode for path, text, mode in wanted):
        return False
    import boot

    return boot.is_kept() and os.path.exists(KEYS) and not _overridden()


def _not_another_fleet(request: dict[str, Any]) -> None:
    found = inspect(request, sys.stdin.buffer)
    if found["fleet"] not in ("", request["fleet"]):
        raise Failed(f"this server belongs to another fleet ({found['fleet']}); run `sf server remove` there first")


def _open_login(keys: bytes) -> None:
    """Validate before anything is reloaded."""
    candidate = f"{STATE}/sudoers.candidate"
    write(candidate, SUDO, 0o440)
    run("visudo", "-c", "-f", candidate)
    sound = _is_sound("visudo", "-c")  # it also finds fault with modes of other files, which are not ours to judge
    os.makedirs("/etc/sudoers.d", mode=0o755, exist_ok=True)
    write(SUDOERS, SUDO, 0o440)
    os.unlink(candidate)
    if sound:
        run("visudo", "-c")
    write(KEYS, keys, 0o644)
    os.makedirs(os.path.dirname(DROP_IN), mode=0o755, exist_ok=True)
    write(DROP_IN, SSHD, 0o644)
    if _overridden():
        config = "/etc/ssh/sshd_config"
        write(config, INCLUDE + read(config), os.stat(config).st_mode & 0o777)
    run("sshd", "-t")
    overridden = _overridden()
    if overridden:
        raise Failed(f"sshd would not use our settings: {overridden!r} is overridden in its configuration")
    if re.search(r"^denyusers .*\bserverflow\b", _effective(), re.M):
        raise Failed("sshd_config denies the user serverflow (DenyUsers)")
    run("systemctl", "reload", "ssh.service")


def _effective() -> str:
    """What sshd does with our login, in lower case. Raises Failed when its configuration is broken."""
    return run("sshd", "-T", "-C", "user=serverflow,host=localhost,addr=127.0.0.1").lower()


def _overridden() -> str:
    """The first of our settings that sshd does not use; "" when it uses all."""
    effective = _effective()
    wanted = (
        f"authorizedkeysfile {KEYS}",
        f"forcecommand sudo -n {LIBEXEC}/runner",
        "permittty no",
        "allowtcpforwarding no",
    )
    return next((setting for setting in wanted if setting.lower() not in effective), "")


def undo(request: dict[str, Any], source: BinaryIO) -> dict[str, Any]:
    """The fresh login did not work: put everything back now rather than at the deadline."""
    sys.path.insert(0, os.path.realpath(f"{LIBEXEC}/current"))
    import safe

    try:
        return {"confirmed": False, "problems": safe.rollback(request["op_id"])}
    except safe.Decided as verdict:
        return {"confirmed": str(verdict) == "confirmed", "problems": []}
    except safe.Unsafe as error:
        raise Failed(str(error)) from error


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _bundle_version() -> int:
    try:
        return int(os.path.basename(os.readlink(f"{LIBEXEC}/current")))
    except (OSError, ValueError):
        return 0


STAGES: dict[str, Callable[[dict[str, Any], BinaryIO], dict[str, Any]]] = {
    "inspect": inspect,
    "tools": install_tools,
    "place": place,
    "arm": arm,
    "undo": undo,
}


def lock(seconds: int) -> None:
    """One stage at a time: a run that lost its operator may still be at work. Held until this process ends.

    Only root gets as far as the file, so nobody else can hold it. Raises Failed when it takes too long.
    """
    os.makedirs(RUN, mode=0o700, exist_ok=True)
    held = os.open(f"{RUN}/enroll.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Failed("another run of `sf server add` is still at work on this server") from None
            time.sleep(0.1)


def main() -> None:
    """Read a length-prefixed JSON request, then what the stage needs; answer with one line of JSON."""
    source = sys.stdin.buffer
    request = json.loads(source.read(int.from_bytes(source.read(4), "big")))
    os.umask(0o022)
    try:
        if request["stage"] != "inspect":
            lock(30 if request["stage"] == "undo" else 300)
        answer = {"ok": True, **STAGES[request["stage"]](request, source)}
    except Exception as error:  # whatever breaks here, the operator gets a line, not a traceback
        answer = {"ok": False, "error": f"{error}" if isinstance(error, Failed) else f"{type(error).__name__}: {error}"}
    sys.stdout.write("serverflow-enroll " + json.dumps(answer) + "\n")


main()
