"""Make a TSIG key, or take over the one of another server."""

from __future__ import annotations

from ..kit import Params, Probe, Secret, Steps, action
from ._config import roles
from ._key import ALGORITHM, TsigKey, secret_of
from ._shared import KEY, NEW_SECRET, SECRET


@action(
    "dns.key",
    "Make a TSIG key, by which name servers know each other",
    kind="change",
    resource="dns.key.{name}",
    host_verbs=("dns-keys", "dns-zones"),
    reveals=("secret",),
    params=[KEY, SECRET, NEW_SECRET],
)
def key(params: Params, probe: Probe) -> Steps:
    roles(probe)
    secret, is_new = secret_of(params, probe)
    yield TsigKey(params.name, secret)
    data = {"key": params.name, "algorithm": ALGORITHM}
    return {**data, "secret": Secret(secret)} if is_new else data
