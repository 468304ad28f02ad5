"""A TSIG key in PowerDNS' database: whoever has it may do what a zone allows to its name. RFC 8945."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from ..kit import Change, Host, Params, Probe, Refused
from ..kit.undo import Footprint, irreversible
from ._rows import keys, zones
from ._zone import tell

ALGORITHM = "hmac-sha256"
_BYTES = 32
_HIDDEN = "(secret)"


@dataclass(frozen=True)
class TsigKey:
    """A key of this name with this secret, or none."""

    name: str
    secret: str = ""
    absent: bool = False

    def check(self, probe: Probe) -> Change | None:
        found = keys(probe).get(self.name)
        if self.absent:
            return Change("delete", "tsig-key", self.name) if found else None
        if not found:
            return Change("create", "tsig-key", self.name, {"secret": (None, _HIDDEN), "algorithm": (None, ALGORITHM)})
        if (found.algorithm, found.secret) != (ALGORITHM, self.secret):
            return Change("update", "tsig-key", self.name, {"secret": (_HIDDEN, f"another {_HIDDEN}")})
        return None

    def apply(self, host: Host) -> None:
        body = {"algorithm": ALGORITHM, "key": self.secret}
        if self.absent:
            host.powerdns_do("key-remove", key=self.name)
        elif self.name in keys(host):
            host.powerdns_do("key-set", body, key=self.name)
            # With the wrong secret they were asked for more and more seldom, in the end once an hour.
            for name in self._fetched(host):
                tell(host, name, "retrieve")
        else:
            host.powerdns_do("key-make", {"name": self.name[:-1], **body})

    def _fetched(self, probe: Probe) -> list[str]:
        """The zones that are transferred with this key, by themselves or with their catalog."""
        found = zones(probe)
        name = self.name.rstrip(".")
        with_key = {
            each.name
            for each in found
            if name in [key.rstrip(".") for key in each.metadata.get("AXFR-MASTER-TSIG", [])]
        }
        return [each.name for each in found if {each.name, each.catalog} & with_key]

    def footprint(self, _: Probe) -> Footprint:
        raise irreversible("keys in PowerDNS' database are not kept")


def secret_of(params: Params, probe: Probe) -> tuple[str, bool]:
    """The secret that the key is to have, and whether it was made now, so that it has to be shown. Raises Refused."""
    if params.secret:
        return _checked(params.secret), False
    found = keys(probe).get(params.name)
    if found and not params.new_password:
        return found.secret, False
    # In a forecast the host makes no secret, and nothing of it is written.
    made = probe.generate("secret", _BYTES)
    return made.replace("-", "+").replace("_", "/") + "=" * (-len(made) % 4), True


def _checked(raw: str) -> str:
    try:
        size = len(base64.b64decode(raw, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not 16 <= size <= 64:
        raise Refused("secret is not the base64 of 16 to 64 bytes")
    return raw
