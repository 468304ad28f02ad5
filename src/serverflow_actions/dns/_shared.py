"""What the verbs of this area share: their parameters."""

from __future__ import annotations

from ..kit.spec import Param, param

ZONE: Param = param("zone", "domain", "Name of the zone", positional=True)
KEY: Param = param("name", "domain", "Name of the key, the same on each server that has it", positional=True)
SECRET: Param = param(
    "secret", "text", "The key's secret in base64, as another server made it; else one is made", default="", secret=True
)
NEW_SECRET: Param = param(
    "new-password", "boolean", "Replace the secret; whoever uses the key needs the new one", default=False
)
