"""What else the SSH login of a stolen deploy key might be good for: nothing but the runner."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .attack import attack
from .attacker import Client
from .operator import eventually
from .target import Fleet, free_port
from .victim import Victim, fresh_victim


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        yield found


NONCE = "ab" * 32

#: Options and words for ssh(1). Each would print something, or leave a file.
LOGINS: dict[str, tuple[list[str], list[str]]] = {
    "a command": ([], ["touch /tmp/canary; id"]),
    "a shell": (["-T"], []),
    "a shell with a terminal": (["-tt"], []),
    "a command with a terminal": (["-tt"], ["id"]),
    "the runner with arguments": ([], ["/usr/local/libexec/serverflow/runner boot"]),
    "sudo": ([], ["sudo -n id"]),
    "a request and a command": ([], [f"sf1 {NONCE}; id"]),
    "a request and a line": ([], [f"sf1 {NONCE}\nid"]),
    "a request and a final newline": ([], [f"sf1 {NONCE}\n"]),
    "a request with an argument": ([], [f"sf1 {NONCE} boot"]),
    "a request before its time": ([], [f" sf1 {NONCE}"]),
    "a nonce in upper case": ([], [f"sf1 {NONCE.upper()}"]),
    "a nonce that is too short": ([], [f"sf1 {NONCE[:-1]}"]),
    "a nonce of other digits": ([], ["sf1 " + "\u0661" * 64]),
    "another protocol": ([], [f"sf2 {NONCE}"]),
    "the sftp subsystem": (["-s"], ["sftp"]),
    "another subsystem": (["-s"], ["netconf"]),
    "scp, the old way": ([], ["scp -t /tmp/canary"]),
    "rsync": ([], ["rsync --server -e.LsfxCIvu . /tmp/canary"]),
    "a variable": (["-o", "SetEnv=SSH_ORIGINAL_COMMAND=id BASH_ENV=/tmp/x ENV=/tmp/x LC_ALL=$(id)"], ["id"]),
    "a tunnel": (["-o", "Tunnel=ethernet", "-w", "0:0", "-o", "ExitOnForwardFailure=yes"], ["id"]),
    "a port on the server": (["-R", "0:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes", "-N"], []),
    "a socket on the server": (["-R", "/tmp/canary:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes", "-N"], []),
    "standard input to a port": (["-W", "127.0.0.1:22"], []),
    "X11": (["-X"], ["xterm"]),
    "an agent": (["-A"], ["ssh-add -l"]),
}


@pytest.mark.parametrize(("options", "words"), LOGINS.values(), ids=LOGINS)
@attack(
    "arbitrary command with the deploy key",
    stopped_by="sshd's forced command; the request is matched, never parsed",
    case="a command",
)
@attack(
    "interactive shell with the deploy key",
    stopped_by="sshd's forced command; the request is matched, never parsed",
    case="a shell",
)
@attack("PTY", stopped_by="`restrict` and PermitTTY no", case="a shell with a terminal")
@attack(
    "subsystem request",
    stopped_by="sshd's forced command; the request is matched, never parsed",
    case="another subsystem",
)
@attack("sftp", stopped_by="sshd's forced command; the request is matched, never parsed", case="the sftp subsystem")
@attack("rsync", stopped_by="sshd's forced command; the request is matched, never parsed", case="rsync")
@attack("ssh -N -R", stopped_by="`restrict` and PermitListen none", case="a port on the server")
@attack("tunnel, X11 and agent forwarding", stopped_by="`restrict`, and sshd's settings for this user", case="a tunnel")
@attack("environment variables", stopped_by="sshd and sudo pass none on but the request", case="a variable")
def test_the_login_gives_nothing_but_the_runner(victim: Victim, options: list[str], words: list[str]) -> None:
    done = victim.client.ssh(*words, options=options, input=b"id\nexit\n")
    assert done.returncode != 0
    assert b"uid=" not in done.stdout
    assert b"SSH-2" not in done.stdout
    assert victim.target.run("test", "-e", "/tmp/canary", check=False).returncode == 1


@pytest.mark.parametrize("program", [["sftp", "-b", "-"], ["scp"], ["scp", "-O"]], ids=["sftp", "scp", "scp -O"])
@attack("sftp", stopped_by="sshd's forced command; the request is matched, never parsed", case="sftp")
@attack("scp", stopped_by="sshd's forced command; the request is matched, never parsed", case="scp")
def test_no_file_is_copied(victim: Victim, program: list[str], tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("x")
    flags = victim.client.argv(program[0])[1:]
    words = (
        [f"{tmp_path}/canary", f"{victim.client.login_name}:/tmp/canary"]
        if program[0] == "scp"
        else [victim.client.login_name]
    )
    done = subprocess.run(
        [*program, *flags, *words], input=b"put /etc/hostname /tmp/canary\n", capture_output=True, timeout=30
    )
    assert done.returncode != 0
    assert victim.target.run("test", "-e", "/tmp/canary", check=False).returncode == 1


@contextlib.contextmanager
def _forwarding(client: Client, *options: str) -> Iterator[None]:
    with subprocess.Popen([*client.argv(), "-N", *options, client.login_name], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def _said(address: tuple[str, int] | str, greeting: bytes = b"") -> bytes:
    """All that comes back through a forwarding, once it accepts."""
    for_unix = isinstance(address, str)
    found: list[socket.socket] = []

    def connected() -> bool:
        peer = socket.socket(socket.AF_UNIX if for_unix else socket.AF_INET)
        try:
            peer.connect(address)
        except OSError:
            peer.close()
            return False
        found.append(peer)
        return True

    eventually(connected, "ssh listens")
    with found[0] as peer:
        peer.settimeout(20)
        peer.sendall(greeting)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := peer.recv(4096):
                said += part
        return said


@attack("ssh -N -L", stopped_by="`restrict` and PermitOpen none")
@attack("ssh -N -D", stopped_by="`restrict` and PermitOpen none")
def test_nothing_is_forwarded_into_the_servers_network(victim: Victim, tmp_path: Path) -> None:
    port, bus = free_port(), f"{os.path.realpath(tmp_path)}/bus"
    with _forwarding(victim.client, "-L", f"{port}:127.0.0.1:22"):
        assert _said(("127.0.0.1", port)) == b""
    with _forwarding(victim.client, "-L", f"{bus}:/run/dbus/system_bus_socket"):
        assert _said(bus, b"\0AUTH EXTERNAL\r\n") == b""
    with _forwarding(victim.client, "-D", str(port)):
        socks = b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1\0\x16"  # no password; connect to 127.0.0.1:22
        assert b"SSH-" not in _said(("127.0.0.1", port), socks)


#: Asked for beside a right request: option by option, what sshd says to it (-v), where it says anything.
EXTRAS: dict[str, tuple[list[str], str]] = {
    "variables": (["-o", "SendEnv=EVIL LC_EVIL", "-o", "SetEnv=LC_ALL=evil PYTHONPATH=/tmp/evil EVIL=evil"], ""),
    "an agent": (["-A"], ""),
    "X11": (["-Y"], "X11 forwarding request failed"),
    "a tunnel": (["-o", "Tunnel=ethernet", "-w", "0:0"], "Tunnel forwarding failed"),
    "a port on the server": (["-R", "0:127.0.0.1:22"], "remote port forwarding failed"),
}


@pytest.fixture(scope="module")
def agent() -> Iterator[str]:
    """The socket of an ssh-agent: without one ssh(1) asks for no forwarding."""
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        path = f"{folder}/agent"
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
            eventually(lambda: os.path.exists(path), "the agent listens")
            yield path
            process.kill()


#: Prints the environment and the standard input of the runner.
LOOK = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
        if words[1:3] == ["-IS", "/usr/local/libexec/serverflow/runner"]:
            print(open(f"/proc/{pid}/environ").read().split(chr(0)), os.readlink(f"/proc/{pid}/fd/0"))
    except OSError:
        pass
"""


@attack("PTY", stopped_by="`restrict` and PermitTTY no")
def test_a_right_request_gets_no_terminal(victim: Victim) -> None:
    done = victim.client.ssh(f"sf1 {NONCE}", options=["-tt"])
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"PTY allocation request failed" in done.stderr


@pytest.mark.parametrize(("options", "refusal"), EXTRAS.values(), ids=EXTRAS)
@attack("environment variables", stopped_by="sshd and sudo pass none on but the request", case="variables")
@attack("tunnel, X11 and agent forwarding", stopped_by="`restrict`, and sshd's settings for this user", case="an agent")
@attack("tunnel, X11 and agent forwarding", stopped_by="`restrict`, and sshd's settings for this user", case="X11")
def test_a_right_request_gets_nothing_besides(victim: Victim, agent: str, options: list[str], refusal: str) -> None:
    """The runner starts, and finds neither a terminal nor an agent nor a variable; no interface or port is opened."""
    before = victim.target.run("sh", "-c", "ip -o link; ss -Hltn; ls -d /tmp/ssh-* 2>/dev/null || true").stdout
    environment = {**os.environ, "LC_EVIL": "evil", "EVIL": "evil", "DISPLAY": ":99", "SSH_AUTH_SOCK": agent}
    ssh, *flags = victim.client.argv()
    argv = [ssh, "-o", "LogLevel=INFO", *flags, *options, victim.client.login_name, f"sf1 {NONCE}"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"H"
        runner = victim.target.run("python3", "-c", LOOK).stdout
        during = victim.target.run("sh", "-c", "ip -o link; ss -Hltn; ls -d /tmp/ssh-* 2>/dev/null || true").stdout
        process.kill()
        said = process.communicate()[1].decode()
    assert runner.count("SSH_ORIGINAL_COMMAND=sf1") >= 1
    for word in "evil", "SSH_AUTH_SOCK", "DISPLAY", "SSH_TTY", "/dev/pts":
        assert word not in runner
    assert during == before
    assert refusal in said


SUDO = {
    "a shell": ["sh", "-c", "id"],
    "the runner with an argument": ["/usr/local/libexec/serverflow/runner", "boot"],
    "the runner's python": ["/usr/bin/python3", "-c", "print('uid=')"],
    "the runner as somebody else": ["-u", "root", "-g", "shadow", "/usr/local/libexec/serverflow/runner"],
    "sudoedit": ["-e", "/etc/passwd"],
}


@pytest.mark.parametrize("words", SUDO.values(), ids=SUDO)
@attack("sudo with other arguments", stopped_by="a rule for the runner without arguments")
def test_the_logins_sudo_is_for_the_runner_alone(victim: Victim, words: list[str]) -> None:
    argv = ["runuser", "-u", "serverflow", "--", "sudo", "-n", *words]
    done = victim.target.run(*argv, check=False)
    assert done.returncode != 0
    assert "uid=" not in done.stdout
    assert "signed commands only" not in done.stderr  # not even started


@attack("environment variables", stopped_by="sshd and sudo pass none on but the request")
def test_variables_do_not_reach_the_runner_through_sudo(victim: Victim) -> None:
    """PYTHONPATH and the like would be code in a process of root's."""
    plant = (
        'mkdir -p /tmp/evil && echo \'open("/tmp/canary", "w")\' > /tmp/evil/os.py && '
        "cp /tmp/evil/os.py /tmp/evil/sitecustomize.py"
    )
    victim.target.run("sh", "-c", plant)
    variables = [
        "PYTHONPATH=/tmp/evil",
        "PYTHONSTARTUP=/tmp/evil/os.py",
        "PYTHONHOME=/tmp/evil",
        "LD_PRELOAD=/tmp/evil/x.so",
    ]
    argv = ["env", *variables[:2], "sudo", "-n", "/usr/local/libexec/serverflow/runner"]
    done = victim.target.run("runuser", "-u", "serverflow", "--", *argv, check=False)
    assert "signed commands only" in done.stderr
    for variable in variables:
        done = victim.target.run("runuser", "-u", "serverflow", "--", "sudo", "-n", variable, argv[-1], check=False)
        assert "not allowed to set" in done.stderr
    assert victim.target.run("test", "-e", "/tmp/canary", check=False).returncode == 1
    victim.target.run("rm", "-r", "/tmp/evil")
