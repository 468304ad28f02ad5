"""The mutations that tests/targets/test_mutations.py installs on a server fit the runner of now."""

from __future__ import annotations

import pytest

from serverflow_cli.trust import bundle

from ..targets.mutations import MUTATIONS


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return bundle.collect()


@pytest.mark.parametrize("name", MUTATIONS)
def test_its_text_is_there_exactly_once(files: dict[str, bytes], name: str) -> None:
    changed = MUTATIONS[name].applied(files)
    for path, _, _ in MUTATIONS[name].places:
        compile(changed[path], path, "exec")
