"""A program that is run once, for what no other step describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..change import Change
from ..probe import Host, HostError, Probe
from ..undo import Footprint, irreversible


@dataclass(frozen=True)
class Run:
    """Run `argv` inside the sandbox, unless `creates` exists or `unless` says that it is done already.

    One of the two is needed: without it every run would change something.
    """

    name: str
    argv: tuple[str, ...]
    unless: Callable[[Probe], bool] | None = None
    creates: str = ""
    input: bytes = b""
    timeout: int = 600

    def __post_init__(self) -> None:
        if not self.unless and not self.creates:
            raise TypeError(f"run {self.name}: needs unless or creates")

    def check(self, probe: Probe) -> Change | None:
        if (self.creates and probe.stat(self.creates)) or (self.unless and self.unless(probe)):
            return None
        return Change("run", "program", self.name)

    def apply(self, host: Host) -> None:
        done = host.execute(self.argv, self.input, self.timeout)
        if done.code:
            said = (done.err or done.out).strip()[-500:]
            raise HostError(f"{self.name}: {said or f'exit code {done.code}'}")

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible(f"nobody can list what the program of this step ({self.name}) changes")
