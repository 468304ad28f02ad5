"""Each step of the verification order, taken out alone, lets something through that the true runner stops.

The mutated runner comes to a server as any other does: in a bundle that the release key signed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from .attack import attack
from .attacker import Key, key_line
from .mutations import MUTATIONS, Mutation
from .probes import CRON, KEYS, NEUTRAL
from .target import Fleet
from .victim import Victim, fresh_victim

LIBEXEC = "/usr/local/libexec/serverflow"
UNITS = {
    "slow": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.05; done'\n",
    "other": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
}


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        for name, unit in UNITS.items():
            found.target.run("tee", f"/etc/systemd/system/{name}.service", input=unit)
        found.target.run("systemctl", "daemon-reload")
        assert found.client.ask("app.create", {"name": "shop"}).verdict == "done"
        keys = {name: Key.make(found.operator.home, name) for name in KEYS}
        narrow = {"actions": ["service.restart"], "where": CRON, "servers": [found.client.server_id]}
        only_jobs = {"actions": ["cron.add"], "where": {}, "servers": [found.client.server_id]}
        found.push_trust(
            found.command_key(keys["ci"], name="ci", grants=[narrow]),
            found.command_key(keys["planner"], name="planner", grants=[only_jobs]),
            found.command_key(keys["past"], name="past", expires=1_700_000_000_000),
            {**found.command_key(keys["ci"], name="nobody"), "key": key_line(NEUTRAL), "ssh": []},
        )
        yield found


@pytest.fixture(scope="module")
def files(victim: Victim) -> dict[str, bytes]:
    """The true runner."""
    return victim.bundle_files()


def test_every_step_is_taken_out() -> None:
    assert {mutation.step for mutation in MUTATIONS.values()} == set(range(1, 14))


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
@attack(
    "scheduling what one may not run",
    stopped_by="a grant is needed for what is scheduled, too",
    case="8: the grant for what it schedules",
)
def test_without_it_something_gets_through(victim: Victim, files: dict[str, bytes], mutation: Mutation) -> None:
    assert mutation.probe(victim) == mutation.right
    with _installed(victim, mutation.applied(files)):
        assert mutation.probe(victim) == mutation.wrong


@contextlib.contextmanager
def _installed(victim: Victim, mutated: dict[str, bytes]) -> Iterator[None]:
    """For the block; then the true runner by hand, since a mutated one may not take a bundle."""
    true = victim.target.run("readlink", f"{LIBEXEC}/current").stdout.strip()
    assert victim.push_bundle(mutated).verdict == "done"
    try:
        yield
    finally:
        back = f'new=$(readlink current) && ln -sfn {true} current && rm -r "$new"'
        victim.target.run("sh", "-c", f"cd {LIBEXEC} && {back}")
