"""A hundred sshd endpoints at once, with one dead and one hanging beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from .listeners import nobody, silence
from .operator import SF, Operator
from .target import Target
from .test_connection_errors import copies, with_address

BOUND_KIB = 150 * 1024
#: Run by a small process: the kernel counts what the starting process had in memory as its child's own peak.
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("\\n" + json.dumps([used.ru_maxrss, used.ru_utime + used.ru_stime]), file=sys.stderr)
sys.exit(code)
"""


def test_a_hundred_endpoints(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    operator.add("s0", target)
    ports = range(3001, 3101)
    for start in range(0, 100, 16):  # an sshd listens on 16 sockets at most
        listen = [word for port in ports[start : start + 16] for word in ("-p", str(port))]
        options = ["-o", "AddressFamily=inet", "-o", "MaxStartups=500", "-o", "PidFile=none"]
        target.run("/usr/sbin/sshd", *options, *listen)
    names = [f"s{port}" for port in ports]
    copies(operator, "s0", [*names, "dead", "hangs"])
    for name, port in zip(names, ports, strict=True):
        with_address(operator, name, target.ip, port)
    with nobody() as dead, silence() as hangs:
        with_address(operator, "dead", "127.0.0.1", dead)
        with_address(operator, "hangs", "127.0.0.1", hangs)
        argv = [str(SF), "--json", "system", "info", "--on", "all,!s0"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *argv],
            env=operator.environment(),
            cwd=operator.fleet,
            capture_output=True,
            text=True,
        )
    told = json.loads(done.stdout)
    peak_kib, cpu_s = json.loads(done.stderr.splitlines()[-1])
    failed = {server["name"]: server["error"] for server in told["servers"] if server["error"]}
    assert failed.keys() == {"dead", "hangs"}, failed
    assert sum(server["outcome"] == "done" for server in told["servers"]) == 100
    assert done.returncode == 10
    seen = target.run("journalctl", "--no-pager", "-q").stdout
    assert seen.count("Accepted publickey for serverflow") >= 100  # each over a connection of its own
    print(f"100 endpoints: peak memory {peak_kib / 1024:.0f} MiB, {cpu_s:.1f} s CPU")
    assert peak_kib < BOUND_KIB
