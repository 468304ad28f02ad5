"""The bundle: the runner's files, the registry's code and registry.json, as servers get them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

_LEFT_OUT = frozenset(("cases", "tests", "__pycache__"))


def collect() -> dict[str, bytes]:
    """Path in the bundle → content, sorted by path: the runner at the top, the registry's package below."""
    import serverflow_actions
    from serverflow_actions import registry

    actions = Path(serverflow_actions.__file__).parent
    files = {**_python_files(_runner(), ""), **_python_files(actions, "serverflow_actions/")}
    files["registry.json"] = _canonical(registry.manifest())
    return dict(sorted(files.items()))


def manifest(version: int, files: Mapping[str, bytes]) -> bytes:
    """bundle.json: the exact bytes that release keys sign, the same for the same files wherever it is built."""
    return _canonical({"v": 1, "typ": "bundle", "version": version, "files": _listing(files)})


def content_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) of what is in a bundle, whatever its version: is there anything to update?"""
    return hashlib.sha256(_canonical(_listing(files))).hexdigest()


def _runner() -> Path:
    """In a wheel the runner is package data; in a checkout it stands beside src/."""
    package = Path(__file__).parents[1]
    packed = package / "_remote"
    return packed if packed.is_dir() else package.parents[1] / "remote"


def _python_files(root: Path, prefix: str) -> dict[str, bytes]:
    return {
        prefix + path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*.py")
        if _LEFT_OUT.isdisjoint(path.relative_to(root).parts)
    }


def _listing(files: Mapping[str, bytes]) -> list[dict[str, object]]:
    return [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(files.items())
    ]


def _canonical(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
