"""What the parent of a signed zone has to publish: DS records (RFC 4509), as PowerDNS' own tool makes them."""

from __future__ import annotations

import re

from ..kit import HostError, Probe

#: pdnsutil(1) until 4.9, and since 5.0.
_DIALECTS = (("export-zone-ds", "{zone}"), ("zone", "export-ds", "{zone}"))
#: Digest type 2: SHA-256, the one that each parent takes (RFC 8624 section 3.3).
_DS = re.compile(r"^\S+\s+(?:[0-9]+\s+)?IN\s+DS\s+([0-9]+) ([0-9]+) 2 ([0-9a-fA-F]{64})\b", re.M)


def ds_of(probe: Probe, zone: str) -> list[str]:
    """`TAG ALGORITHM 2 DIGEST` for each key that signs keys. Raises HostError."""
    said = ""
    for dialect in _DIALECTS:
        done = probe.run(["pdnsutil", *(word.format(zone=zone) for word in dialect)])
        found = _DS.findall(done.out)
        if done.code == 0 and found:
            return [f"{tag} {algorithm} 2 {digest.lower()}" for tag, algorithm, digest in found]
        said = said or (done.err or done.out).strip()[-300:]
    raise HostError(f"pdnsutil gives no DS record of {zone}: {said or 'it says nothing'}")
