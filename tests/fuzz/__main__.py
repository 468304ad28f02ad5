"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz SECONDS` for each harness, one after the other.

What was found stays in .cache/fuzz/HARNESS: `corpus` goes on from run to run, `found` has each input that broke
something. `python -m tests.fuzz HARNESS FILE` tries one again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/fuzz"
HARNESSES = ("frames", "sshsig", "json")
#: A little more than the longest command.
LONGEST = 70_000
#: Seconds for one input, and megabytes for all: more is a hang, or a way to fill a server's memory.
TIMEOUT_S, MEMORY_MB = 10, 1024


def main(arguments: list[str]) -> int:
    if importlib.util.find_spec("atheris") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        here = f"Python {version} on {platform.system()} {platform.machine()}"
        print(f"atheris is not installed. Its wheels are for Python 3.11 to 3.14 on Linux x86_64; this is {here}")
        return 1
    if arguments[:1] and arguments[0] in HARNESSES:
        from .harness import fuzz

        fuzz(arguments[0], arguments[1:])
        return 0
    return max(_run(harness, int(arguments[0])) for harness in HARNESSES)


def _run(harness: str, seconds: int) -> int:
    """A process of its own: the first finding ends it."""
    corpus, found = CACHE / harness / "corpus", CACHE / harness / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        str(corpus), f"-artifact_prefix={found}/", f"-max_total_time={seconds}", f"-max_len={LONGEST}",
        f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    _sow(harness, corpus)
    print(f"{harness}: {seconds} s", flush=True)
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", harness, *options], cwd=ROOT)
    if done.returncode:
        print(f"{harness}: something broke; the input is in {found}")
    return done.returncode


def _sow(harness: str, corpus: Path) -> None:
    """Valid messages to begin from."""
    sys.path.insert(0, str(ROOT / "remote"))
    from .harness import seeds_of

    for seed in seeds_of(harness):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
