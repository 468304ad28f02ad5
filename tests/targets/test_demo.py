"""`make demo`, without make: what it shows, and that nothing of it stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from .operator import eventually
from .target import OWNER, call

DEMO = Path(__file__).parents[1] / "demo/demo.sh"


def start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """A demo in a process group of its own, as a terminal gives it one; temporary files go below `folder`."""
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), **variables}
    return subprocess.Popen(
        [DEMO], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def left(demo: subprocess.Popen[str]) -> list[str]:
    """Its containers and networks."""
    label = f"label={OWNER}=demo-{demo.pid}"
    names = [call("docker", "ps", "-a", "--filter", label, "--format", "{{.Names}}").stdout]
    names.append(call("docker", "network", "ls", "--filter", label, "--format", "{{.Name}}").stdout)
    return "".join(names).split()


def test_two_demos_at_once_one_of_them_interrupted(engine: None, tmp_path: Path) -> None:
    whole, cut = start(tmp_path / "whole"), start(tmp_path / "cut")
    eventually(lambda: left(cut), "the demo's server starts", timeout=300)
    os.killpg(cut.pid, signal.SIGINT)
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    for part in (
        "os:              Debian GNU/Linux 12 (bookworm)",
        "+ package redis-server",
        "NOAUTH Authentication required.",
        "chain:    sound",
        'answer: {"code":"refused"}',
        "nothing ran",
        "answer: done, a receipt with the server's signature",
        "sf server add web1 root@203.0.113.7 -i ~/.ssh/id_ed25519 --role app --fingerprint SHA256:…",
    ):
        assert part in said
    assert len(re.findall(r"^   \(\d+\.\d s\)$", said, re.M)) == len(re.findall(r"^\d+\. ", said, re.M))
    cut.communicate(timeout=60)
    assert cut.returncode == 130
    assert left(whole) == left(cut) == []
    assert not any((tmp_path / "whole").glob("tmp.*")) and not any((tmp_path / "cut").glob("tmp.*"))


def test_a_step_that_fails_says_why(tmp_path: Path) -> None:
    demo = start(tmp_path / "demo", DOCKER_HOST=f"unix://{tmp_path}/nothing-here")
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "no Docker engine answers at DOCKER_HOST" in said
    assert not any((tmp_path / "demo").glob("tmp.*"))
