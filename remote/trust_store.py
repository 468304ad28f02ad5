"""The trust files and versions on this server: read, install, and derive the login keys from them.

Every session reads; what only an update needs is imported there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from typing import Callable

import layout
import messages
import store

VERSIONS_KEPT = 2


def current() -> messages.Trust:
    """The highest version. Its signatures were checked when it was installed; the folder is root's."""
    return messages.parse_trust(current_body())


def current_body() -> bytes:
    """The exact bytes that were signed. Raises ValueError while there is no trust file."""
    number = max(int(name[:-5]) for name in os.listdir(layout.TRUST) if re.fullmatch(r"[0-9]+\.json", name))
    return store.read_file(f"{layout.TRUST}/{number}.json") or b""


def bundle_version() -> int:
    """The number of the installed registry and runner; 0 when there is none."""
    try:
        return int(os.path.basename(os.readlink(layout.CURRENT)))
    except (OSError, ValueError):
        return 0


def install_trust(trust: messages.Trust, body: bytes, blobs: Sequence[bytes]) -> None:
    """Write version N with its signatures, then the login keys that follow from it. The caller has verified both."""
    write_trust_files({f"{trust.version}.json": body, f"{trust.version}.json.sig": armour(blobs)})
    write_login_keys(trust)


def write_trust_files(files: dict[str, bytes]) -> None:
    """The signature first: a version counts once its .json is there."""
    for name in sorted(files, key=lambda name: not name.endswith(".sig")):
        store.write_file(f"{layout.TRUST}/{name}", files[name], 0o644)


def armour(blobs: Sequence[bytes]) -> bytes:
    """One SSH SIGNATURE block for each (PROTOCOL.sshsig)."""
    blocks = []
    for blob in blobs:
        text = base64.b64encode(blob).decode()
        lines = "\n".join(text[i : i + 70] for i in range(0, len(text), 70))
        blocks.append(f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n")
    return "".join(blocks).encode()


def login_keys(trust: messages.Trust) -> bytes:
    """authorized_keys(5) for the login user: each key may start the runner and nothing else."""
    import datetime

    lines = ["# Written by serverflow from its trust file; changes here are lost."]
    for key in trust.command:
        options = ["restrict", f'command="sudo -n {layout.RUNNER}"']
        if key.addresses:
            options.append(f'from="{",".join(key.addresses)}"')
        moment = datetime.datetime.fromtimestamp(key.expires / 1000, datetime.timezone.utc)
        # sshd reads this in the system's time zone before OpenSSH 8.9 knew the Z suffix: a day's grace; the signature
        # check is exact.
        options.append(f'expiry-time="{(moment + datetime.timedelta(days=1)).strftime("%Y%m%d%H%M%S")}"')
        lines += [f"{','.join(options)} {line} {key.name}" for line in key.ssh if key.expires > store.now_ms()]
    return ("\n".join(lines) + "\n").encode()


def write_login_keys(trust: messages.Trust) -> None:
    """sshd reads it as the login user's AuthorizedKeysFile; root owns it, so no session can change it."""
    store.write_file(layout.AUTHORIZED_KEYS, login_keys(trust), 0o644)


def repair_login_keys() -> None:
    """Derive them again, where the login is open: they follow from the trust file and from the date."""
    installed = store.read_file(layout.AUTHORIZED_KEYS)
    if installed is None:
        return
    trust = current()
    if installed != login_keys(trust):
        write_login_keys(trust)


def stage_bundle(bundle: messages.Bundle, body: bytes, blobs: Sequence[bytes], read: Callable[[int], bytes]) -> str:
    """A folder with everything from the stream, every hash checked. Nothing runs from it yet. Raises Denied."""
    import shutil
    import tempfile

    staging = tempfile.mkdtemp(prefix=f".{bundle.version}.", dir=layout.VERSIONS)
    try:
        os.chmod(staging, 0o755)  # noqa: S103  the confined reader loads its code from there
        for file in bundle.files:
            data = read(file.size)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise messages.Denied("bad-bundle", f"{file.path} is not what the manifest says")
            path = f"{staging}/{file.path}"
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            store.write_file(path, data, 0o644)
        store.write_file(f"{staging}/bundle.json", body, 0o644)
        store.write_file(f"{staging}/bundle.json.sig", armour(blobs), 0o644)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return staging


def adopt_bundle(staging: str, bundle: messages.Bundle) -> None:
    """Try it out, then switch `current` over to it in one rename. Raises Denied(bad-bundle)."""
    import shutil

    paths = [file.path for file in bundle.files]
    try:
        compile_all(staging, bundle.version, paths)
    except Exception as error:  # py_compile raises what the compiler does: SyntaxError, ValueError …
        raise messages.Denied("bad-bundle", f"it does not compile: {error}"[:300]) from None
    try_out(staging, paths)
    target = f"{layout.VERSIONS}/{bundle.version}"
    shutil.rmtree(target, ignore_errors=True)
    os.rename(staging, target)
    switch(bundle.version)


#: Everything that a session may come to import, so that a bundle which cannot start never takes over.
_TRIAL = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
with open(sys.argv[1] + "/registry.json", encoding="utf-8") as file:
    entries = json.load(file)["actions"].values()
for entry in entries:
    importlib.import_module(entry["module"])
assert callable(sys.modules["runner"].main)
"""


def try_out(root: str, paths: Sequence[str]) -> None:
    """Import the runner's parts and all actions, in a process of their own. Raises Denied(bad-bundle)."""
    import subprocess

    # enroll.py is a program for a standard input, not a module.
    names = [path[:-3] for path in paths if re.fullmatch(r"[a-z_]+\.py", path) and path != "enroll.py"]
    argv = [layout.PYTHON, "-ISB", "-c", _TRIAL, root, *names]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise messages.Denied("bad-bundle", "it does not start: no end within 60 s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise messages.Denied("bad-bundle", f"it does not start: {''.join(said)}"[:300])


def compile_all(root: str, version: int, paths: Sequence[str]) -> None:
    """Byte code at install time: the confined reader cannot write it later, and compiling costs a command 100 ms."""
    import py_compile

    for path in paths:
        if path.endswith(".py"):
            py_compile.compile(
                f"{root}/{path}",
                dfile=f"{layout.VERSIONS}/{version}/{path}",
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def switch(version: int) -> None:
    import shutil

    temporary = layout.CURRENT + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(f"{layout.VERSIONS}/{version}", temporary)
    os.rename(temporary, layout.CURRENT)
    store.sync_folder(layout.LIBEXEC)
    for old in _old_versions(version):
        shutil.rmtree(f"{layout.VERSIONS}/{old}", ignore_errors=True)


def _old_versions(version: int) -> list[int]:
    numbers = sorted(int(name) for name in os.listdir(layout.VERSIONS) if name.isdigit())
    return [n for n in numbers if n < version][:-VERSIONS_KEPT]
