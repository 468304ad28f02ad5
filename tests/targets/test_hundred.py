"""A hundred sshd endpoints at once, with one dead and one hanging beside them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

from .listeners import nobody, silence
from .operator import SF, Operator
from .target import Target
from .test_connection_errors import copies, with_address

BOUND_KIB = 150 * 1024


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
        with subprocess.Popen(argv, env=operator.environment(), cwd=operator.fleet, stdout=subprocess.PIPE) as process:
            assert process.stdout
            told = json.loads(process.stdout.read())
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    failed = {server["name"]: server["error"] for server in told["servers"] if server["error"]}
    assert failed.keys() == {"dead", "hangs"}, failed
    assert sum(server["outcome"] == "done" for server in told["servers"]) == 100
    assert process.returncode == 10
    seen = target.run("journalctl", "--no-pager", "-q").stdout
    assert seen.count("Accepted publickey for serverflow") >= 100  # each over a connection of its own
    print(f"100 endpoints: peak memory {usage.ru_maxrss / 1024:.0f} MiB, {usage.ru_utime + usage.ru_stime:.1f} s CPU")
    assert usage.ru_maxrss < BOUND_KIB
