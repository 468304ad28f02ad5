"""The bundle: the runner's files, the registry's code and registry.json, as servers get them; and bundle.json, which
lists them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TrustError
from . import sshsig
from .trustfile import Role

SIZE_LIMIT = 1024 * 1024
#: Versions go up by one, so no fleet comes near it; and servers take far higher ones, should somebody burn these.
_HIGHEST = 2**31

_LEFT_OUT = frozenset(("cases", "tests", "__pycache__"))
_PATH = re.compile(r"[A-Za-z0-9_./-]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ACTION = re.compile(r"serverflow_actions/(?!kit/)([a-z0-9]+)/([a-z][a-z0-9_]*)\.py")


@dataclass(frozen=True)
class Manifest:
    """A bundle.json that was read. `files`: path → SHA-256 (hex)."""

    version: int
    files: Mapping[str, str]

    @property
    def actions(self) -> dict[str, str]:
        """Action name → SHA-256 of its file; by the place that the registry gives it."""
        found = ((_ACTION.fullmatch(path), sha256) for path, sha256 in self.files.items())
        return {f"{match[1]}.{match[2].replace('_', '-')}": sha256 for match, sha256 in found if match}

    @property
    def other_files(self) -> dict[str, str]:
        """The files that are no action."""
        return {path: sha256 for path, sha256 in self.files.items() if not _ACTION.fullmatch(path)}


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
    return _body(version, _listing(files))


def parse(data: bytes) -> Manifest:
    """Read a bundle.json. As with a trust file, what is not exactly as `manifest` writes it is refused: TrustError."""
    try:
        value = json.loads(data)
        version, files = value["version"], value["files"]
        right = len(data) <= SIZE_LIMIT and _is_count(version) and 0 < version <= _HIGHEST and all(map(_is_file, files))
        paths = [file["path"] for file in files]
        if right and paths == sorted(set(paths)) and _body(version, files) == data:
            return Manifest(version, {file["path"]: file["sha256"] for file in files})
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise TrustError("bundle.json is damaged", code="bad-bundle", hint="git log bundle.json")


def signers(data: bytes, blobs: Iterable[bytes], release: Role) -> dict[bytes, bytes]:
    """Of these signatures, those that keys of the role made over exactly these bytes: raw public key → blob.

    Others are left out: while a bundle is replaced, signatures of the old one and the new one lie side by side.
    """
    valid = {}
    for blob in blobs:
        try:
            valid[sshsig.verify(blob, sshsig.BUNDLE, data)] = blob
        except TrustError:
            continue
    return {key.public_key: valid[key.public_key] for key in release.keys if key.public_key in valid}


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


def _body(version: int, listing: list[dict[str, object]]) -> bytes:
    return _canonical({"v": 1, "typ": "bundle", "version": version, "files": listing})


def _is_file(value: Any) -> bool:
    path, size, sha256 = value["path"], value["size"], value["sha256"]
    return (
        len(value) == 3
        and isinstance(path, str)
        and bool(_PATH.fullmatch(path))
        and {"", ".", ".."}.isdisjoint(path.split("/"))
        and _is_count(size)
        and isinstance(sha256, str)
        and bool(_SHA256.fullmatch(sha256))
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _canonical(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
