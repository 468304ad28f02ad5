"""The README says what is so: its commands run as they stand, and its lists are complete.

Every line of its `sh` blocks and every `sf` command in its table runs, in the order of the page, in one shell at a
terminal, on one new server. Questions are answered with yes. Only what names somebody's own server is replaced:

    root@203.0.113.7   the target's login, with the key that opens it
    OP                 the operation that ran last

What people have to take out of fleet.toml by hand, as the page says, is taken out where it says so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pexpect

from serverflow_cli import errors

from .operator import SF, Operator
from .target import Target

README = (Path(__file__).parents[2] / "README.md").read_text()

#: Commands that other tests run.
ELSEWHERE = {
    "make demo": "test_demo.py",
    "make test": "it is what runs this",
    "pip install .": "tests/unit/test_wheel.py",
    "sf notify add slack ops": "test_area_notify.py",
    "sf notify test ops --on web1": "test_area_notify.py",
    "sf dns setup acme.net --provider cloudflare": "test_dns_contract.py",
    "sf cert setup --email ana@acme.app": "test_names.py",
}
FIRST_ROW = 'import json, sys; print(json.load(sys.stdin)["data"]["ops"][0]["op"])'
LAST_OP = f"$(sf --json op list | {SF.with_name('python')} -c '{FIRST_ROW}')"
QUESTIONS = {r"\[y/N\] ": "y", r"Type (\S+) to go on: ": ""}


def commands() -> list[str]:
    """In the order of the page."""
    found = re.findall(r"^```sh\n(.*?)^```|^\| `(sf [^`]*)` \|", README, re.M | re.S)
    return [line for block, cell in found for line in (block or cell).splitlines() if line not in ELSEWHERE]


def test_every_command_works_as_it_stands(fresh_target: Callable[..., Target], tmp_path: Path) -> None:
    target = fresh_target()
    (tmp_path / ".ssh").mkdir(mode=0o700)
    shutil.copy(target.admin_key, tmp_path / ".ssh/id_ed25519")
    login = f"root@{target.ip} -i ~/.ssh/id_ed25519"  # by the address where its name server answers too
    lines = [re.sub(r"\bOP\b", lambda _: LAST_OP, line.replace("root@203.0.113.7", login)) for line in commands()]
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{SF.parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    script = tmp_path / "readme.sh"
    script.write_text("set -eux\n" + "\n".join(lines))
    shell = pexpect.spawn(
        "bash", [str(script)], cwd=tmp_path, env=environment, encoding="utf-8", timeout=300, dimensions=(50, 200)
    )
    said = ""
    while (index := shell.expect([*QUESTIONS, pexpect.EOF])) < len(QUESTIONS):
        said += shell.before + shell.after
        shell.sendline(list(QUESTIONS.values())[index] or shell.match.group(1))
    said += shell.before
    shell.close()
    assert shell.exitstatus == 0, said
    # The page ends with the server's removal: what it says of that is so.
    assert target.run("getent", "passwd", "serverflow", check=False).returncode == 2
    assert [path for path in places() if target.run("test", "-e", path, check=False).returncode == 0] == []


def places() -> list[str]:
    """What the page says that a server gets."""
    return re.findall(r"^\| `(/[^`]*)` \|", README, re.M)


def test_a_server_gets_what_the_list_says(fresh_target: Callable[..., Target], fresh_operator: Operator) -> None:
    target = fresh_target()
    before = paths(target)
    fresh_operator.add("web1", target)
    added = paths(target) - before - {"/usr/local/libexec"}
    assert [path for path in places() if path not in added] == []
    assert sorted(path for path in added if not path.startswith(tuple(places()))) == []


def paths(target: Target) -> set[str]:
    """Every path that lasts, but for what the system keeps about itself."""
    own = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd", "/var/cache"]
    prune = [word for path in own for word in ("-path", path, "-o")][:-1]
    found = target.run("find", "/", "(", *prune, ")", "-prune", "-o", "-print").stdout.splitlines()
    # useradd's own backups and locks
    return {
        path for path in found if not re.fullmatch(r"/etc/(\.pwd\.lock|(passwd|shadow|group|gshadow|sub[ug]id)-)", path)
    }


def test_exit_codes_are_complete() -> None:
    ours = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SfError)
    }
    table = README.split("## Exit codes")[1].split("##")[0]
    assert {int(code) for code in re.findall(r"\| (\d+) \|", table.replace("|", "||"))} == ours | {0, 70}
