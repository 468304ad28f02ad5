"""How hard the fuzz tests try: FUZZ_EXAMPLES for each property, few by default since they ride along with each run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))

#: No deadline: a busy machine is no failure. The folder of a test may serve all of its examples.
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
