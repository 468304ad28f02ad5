"""The bundle that sf builds is one that servers take."""

from __future__ import annotations

import hashlib
import json

import messages
from serverflow_actions import registry
from serverflow_cli.trust import bundle


def test_what_is_in_it() -> None:
    files = bundle.collect()
    assert {"verify.py", "messages.py", "authorise.py", "strict.py", "registry.json"} <= set(files)
    assert {"serverflow_actions/__init__.py", "serverflow_actions/kit/engine.py"} <= set(files)
    assert all(path.endswith(".py") or path == "registry.json" for path in files)
    assert not any(part in ("cases", "tests", "__pycache__") for path in files for part in path.split("/"))
    assert json.loads(files["registry.json"]) == registry.manifest()


def test_servers_take_it() -> None:
    files = bundle.collect()
    parsed = messages.parse_bundle(bundle.manifest(7, files))
    assert parsed.version == 7
    assert [(file.path, file.sha256) for file in parsed.files] == [
        (path, hashlib.sha256(data).hexdigest()) for path, data in files.items()
    ]
    assert b"".join(files[file.path] for file in parsed.files) == b"".join(files.values())


def test_it_is_reproducible() -> None:
    files = {"b.py": b"2", "a.py": b"1"}
    turned = {"a.py": b"1", "b.py": b"2"}
    assert bundle.manifest(3, files) == bundle.manifest(3, turned)
    assert bundle.content_hash(files) == bundle.content_hash(turned)
    assert bundle.content_hash(files) != bundle.content_hash({**files, "a.py": b"2"})
    assert bundle.content_hash(files) != bundle.content_hash({"b.py": b"2", "c.py": b"1"})
    assert bundle.collect() == bundle.collect()
