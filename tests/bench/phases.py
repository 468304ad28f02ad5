"""Where a server's CPU goes in one signed read: the runner's own parts, run one by one on a server."""

from __future__ import annotations

import json

from .lab import Lab

RUNNER = "/usr/local/libexec/serverflow/current"

#: Runs on the server. CPU time of a whole process, or of one part inside a process; medians in ms.
SCRIPT = """
import json, os, resource, statistics, subprocess, sys, time
sys.path.insert(0, RUNNER)

def process(*argv, env=None):
    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return median(once)

def inside(work):
    def once():
        before = time.process_time()
        work()
        return time.process_time() - before
    return median(once)

def median(once):
    return statistics.median(once() for _ in range(ROUNDS)) * 1000

def python(code):
    return process("/usr/bin/python3", "-IS", "-c", f"import sys; sys.path.insert(0, {RUNNER!r}); {code}")

import confine, signing, trust_store, verify
identity = signing.Identity()
frame = verify.parse_signed(identity.signed(signing.HELLO, b"x" * 1000))

def sandbox():
    child = os.fork()
    if not child:
        os._exit(confine.enter("serverflow-read", False, False, 256 << 20, 20) or 0)
    os.waitpid(child, 0)

def sandboxed():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    sandbox()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

login = ("setpriv", "--reuid=serverflow", "--regid=serverflow", "--clear-groups")
asked = {"PATH": "/usr/bin:/bin", "SSH_ORIGINAL_COMMAND": "sf1 " + "0" * 64}
bare, empty = python("pass"), process(*login, "true")
session = python("import session")
found = {
    "interpreter start": bare,
    "imports of the session": session - bare,
    "imports of the read": python("import session, reads, serverflow_actions.system.info") - session,
    "sudo": process(*login, "sudo", "-n", "/usr/local/libexec/serverflow/runner", "x") - empty,
    "sign (two signatures)": 2 * inside(lambda: identity.sign(signing.HELLO, b"x" * 1000)),
    "verify (one signature)": inside(lambda: frame.signatures[0].signs(frame.body)),
    "read the trust file": inside(trust_store.current),
    "sandbox": median(sandboxed),
}
print(json.dumps(found))
"""


def report(lab: Lab, rounds: int) -> None:
    """Print the parts, and beside them what the control group says of whole exchanges."""
    target = lab.targets[0]
    head = f"RUNNER, ROUNDS = {RUNNER!r}, {max(rounds * 3, 5)}\n"
    parts: dict[str, float] = json.loads(target.run("python3", "-", input=head + SCRIPT).stdout)
    login = _whole(lab, rounds, ["ssh", "-n", "-F", "none", "-i", str(lab.key), "-o", "BatchMode=yes"])
    read = _whole_read(lab, rounds)
    print("\n### Server CPU of one signed read\n\n| part | ms |\n| --- | --- |")
    print(f"| sshd: key exchange, login, session (`ssh host true`) | {login:.1f} |")
    for name, value in parts.items():
        print(f"| {name} | {value:.1f} |")
    rest = read - login - sum(parts.values())
    print(f"| the rest: the action, receipts, processes that end | {rest:.1f} |")
    print(f"| the whole (`sf system info`) | {read:.1f} |", flush=True)


def _whole(lab: Lab, rounds: int, ssh: list[str]) -> float:
    from .measure import Command, in_turns

    options = ["-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "KexAlgorithms=curve25519-sha256"]
    command = Command("ssh", [*ssh, *options, f"root@{lab.targets[0].ip}", "true"], {"PATH": "/usr/bin:/bin"})
    return in_turns([command], rounds * 2, lab.server_cpu)["ssh"].server * 1000


def _whole_read(lab: Lab, rounds: int) -> float:
    from .measure import in_turns
    from .peers import Peers

    return in_turns([Peers(lab).sf(1)], rounds * 2, lab.server_cpu)["sf"].server * 1000
