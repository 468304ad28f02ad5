"""Units as a safe change finds and leaves them: their state, the links that enable them, and who starts and stops with
them.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import layout
import store
from serverflow_actions.kit.lifelines import CONFLICTS, STOPS_WITH

RUNNING = ("active", "reloading", "activating")
_PASSING = ("reloading", "activating", "deactivating")
_PROGRAM_S = 90
#: Folders of links below layout.UNITS (systemd.unit(5)), by the setting in [Install] that fills them.
_FOLDERS = {"WantedBy": "wants", "RequiredBy": "requires", "UpheldBy": "upholds"}
_FOLDER = re.compile(r".+\.(?:wants|requires|upholds)\Z")
#: What systemd starts with a unit.
_PULLS_IN = ("Requires", "BindsTo", "Wants", "Upholds")
#: They are there by themselves, or hold what others started too.
_NOT_STARTED = (".device", ".slice", ".scope")
_NEVER_STARTED = ("not-found", "masked")
#: Units that one change may stop along the way, or that enable each other.
_LIMIT = 200


class TooMany(Exception):
    """A sentence: these units cannot be kept."""


def run(argv: Sequence[str], timeout: int = _PROGRAM_S) -> subprocess.CompletedProcess[bytes]:
    """Raises TimeoutExpired."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, env=layout.ENVIRONMENT, check=False, capture_output=True, timeout=timeout
    )


def told(error: BaseException) -> str:
    """What a program said that failed, else the error itself."""
    said = getattr(error, "stderr", None) or b""
    return said.decode("utf-8", "replace").strip()[-300:] or str(error)


def is_booting() -> bool:
    """Whether systemd has not yet started what every service waits for (basic.target in bootup(7))."""
    return run(["systemctl", "is-active", "--quiet", "basic.target"]).returncode != 0


def state(name: str) -> dict[str, Any]:
    """Whether it runs and starts at boot; `invocation` is another one each time it was started (systemd.exec(5))."""
    told = next(_show([name], "ActiveState", "UnitFileState", "InvocationID"), {})
    names = {"active": "ActiveState", "enabled": "UnitFileState", "invocation": "InvocationID"}
    return {"name": name, **{key: told.get(value, "") for key, value in names.items()}}


def names_of(name: str) -> list[str]:
    """All its names, the one that was asked for among them."""
    told = next(_show([name], "Id", "Names"), {})
    return list(dict.fromkeys([name, *told.get("Id", "").split(), *told.get("Names", "").split()]))


def kept(names: Iterable[str]) -> list[dict[str, Any]]:
    """The states of these units, and of all that systemd starts and stops along with them. Raises TooMany."""
    own = [state(name) for name in names]
    named = [unit["name"] for unit in own]
    started = started_with(named)
    stopped = rivals([*named, *started])
    stopped += stopped_with([*named, *started, *stopped])
    others = [name for name in dict.fromkeys([*stopped, *started]) if name not in named]
    return own + [{**state(name), "dependent": True} for name in others]


def differences(before: dict[str, Any], *, at_boot: bool) -> list[str]:
    """What is not as it was kept, a sentence each. At boot nothing runs yet."""
    now, name = state(before["name"]), before["name"]
    told = []
    if not at_boot and not _is_same(before["active"], now["active"]):
        told.append(f"{name} was {before['active']}, and is {now['active']} now")
    if not before.get("dependent") and before["enabled"] != now["enabled"]:
        was, is_now = (each["enabled"] or "no unit" for each in (before, now))
        told.append(f"{name} was {was} for the next boot, and is {is_now} now")
    return told


def _is_same(before: str, now: str) -> bool:
    if before in _PASSING:
        return before == "deactivating" or now in RUNNING
    return now in ("active", "reloading") if before == "active" else now == before


# --- what else systemd does ------------------------------------------------------------------------------------------


def stopped_with(names: Sequence[str]) -> list[str]:
    """Those that run, and stop when one of these does. Raises TooMany."""
    seen, level, running = set(names), list(names), []
    while level:
        level = [name for name in _named(level, STOPS_WITH) if name not in seen]
        seen.update(level)
        if len(seen) > _LIMIT:
            raise TooMany(f"too many units stop with {names[0]} to bring them back")
        running += _running(level)
    return running


def started_with(names: Sequence[str]) -> list[str]:
    """Those that do not run, and start when one of these does. Raises TooMany.

    Behind a target that has been reached nothing is looked for: sysinit.target, say, is behind every service.
    """
    seen, level, idle = set(names), list(names), []
    while level:
        level = [name for name in _named(level, _PULLS_IN) if name not in seen and not name.endswith(_NOT_STARTED)]
        seen.update(level)
        if len(seen) > _LIMIT:
            raise TooMany(f"too many units start with {names[0]} to take that back")
        running = set(_running(level))
        idle += [name for name in _startable(level) if name not in running]
        level = [name for name in level if name not in running or not name.endswith(".target")]
    return idle


def rivals(names: Sequence[str]) -> list[str]:
    """Those that run, and stop when one of these starts: Conflicts= in systemd.unit(5), on either side."""
    return _running(list(_named(names, CONFLICTS)))


def _named(names: Sequence[str], properties: Sequence[str]) -> dict[str, None]:
    """The units that these name there, each once, in order."""
    return dict.fromkeys(
        other for told in _show(names, "Id", *properties) for key in properties for other in told.get(key, "").split()
    )


def _startable(names: Sequence[str]) -> list[str]:
    return [told["Id"] for told in _show(names, "Id", "LoadState") if told.get("LoadState") not in _NEVER_STARTED]


def _running(names: Sequence[str]) -> list[str]:
    return [told["Id"] for told in _show(names, "Id", "ActiveState") if told.get("ActiveState") in RUNNING]


# --- links -----------------------------------------------------------------------------------------------------------


def links(names: Iterable[str]) -> list[str]:
    """The links that enable these units, or would, and those that Also= (systemd.unit(5)) names with them: paths, each
    folder before what is in it. Raises TooMany.
    """
    paths: list[str] = []
    for unit in _with_also(names):
        paths += [*_found(unit), *_made_by(unit), *_init_links(unit)]
    folders = [os.path.dirname(path) for path in paths if os.path.dirname(path) != layout.UNITS]
    return list(dict.fromkeys([*folders, *paths]))


def _with_also(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Name, other names, and what [Install] says."""
    seen, left = set(), list(names)
    while left:
        name = left.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if len(seen) > _LIMIT:
            raise TooMany("too many units enable each other to bring them back")
        told = next(_show([name], "Names", "FragmentPath", "DropInPaths"), {})
        files = [told.get("FragmentPath", ""), *told.get("DropInPaths", "").split()]
        install = _install_section([path for path in files if path])
        yield {"name": name, "names": {name, *told.get("Names", "").split()}, "install": install}
        left += [_expanded(other, name) for other in install.get("Also", ())]


def _install_section(files: Iterable[str]) -> dict[str, list[str]]:
    """The words of each setting, in all of these files."""
    found: dict[str, list[str]] = {}
    for path in files:
        section = ""
        text = (store.read_file(path) or b"").decode("utf-8", "replace").replace("\\\n", " ")
        for line in map(str.strip, text.splitlines()):
            if line.startswith("["):
                section = line
            elif section == "[Install]" and "=" in line and line[0] not in "#;":
                key, _, value = line.partition("=")
                found.setdefault(key.strip(), []).extend(value.split())
    return found


def _expanded(word: str, name: str) -> str:
    """The specifiers that [Install] is written with; whatever has others names nothing that we find."""
    prefix, _, instance = name.rpartition(".")[0].partition("@")
    for specifier, value in {"%i": instance, "%I": instance, "%p": prefix, "%n": name}.items():
        word = word.replace(specifier, value)
    return word


def _found(unit: dict[str, Any]) -> Iterator[str]:
    for folder in _link_folders():
        for entry in os.scandir(folder):
            target = os.path.basename(os.readlink(entry.path)) if entry.is_symlink() else ""
            if target and unit["names"] & {entry.name, target}:
                yield entry.path


def _init_links(unit: dict[str, Any]) -> Iterator[str]:
    """systemctl(1) enables and disables the init script of the same name too, where Debian has one: update-rc.d(8)
    makes K01NAME of S01NAME, and back.
    """
    for name in sorted(unit["names"]):
        script = name[: -len(".service")]
        if not name.endswith(".service") or not os.path.exists(f"/etc/init.d/{script}"):
            continue
        for path in sorted(glob.glob(f"/etc/rc[0-6S].d/[SK][0-9][0-9]{glob.escape(script)}")):
            folder, link = os.path.split(path)
            yield path
            yield from (f"{folder}/{kind}{number}{script}" for kind in "SK" for number in ("01", link[1:3]))


def _link_folders() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        inside = [e.path for e in os.scandir(layout.UNITS) if _FOLDER.match(e.name) and e.is_dir(follow_symlinks=False)]
        return [layout.UNITS, *inside]
    return []


def _made_by(unit: dict[str, Any]) -> Iterator[str]:
    """By `systemctl enable`."""
    install, name = unit["install"], unit["name"]
    for setting, kind in _FOLDERS.items():
        for target in install.get(setting, ()):
            yield f"{layout.UNITS}/{os.path.basename(_expanded(target, name))}.{kind}/{name}"
    for alias in install.get("Alias", ()):
        path = f"{layout.UNITS}/{os.path.basename(_expanded(alias, name))}"
        if os.path.islink(path) or not os.path.lexists(path):
            yield path


def _show(names: Sequence[str], *properties: str) -> Iterator[dict[str, str]]:
    """systemctl(1) show: a block of lines for each unit, with an empty line between two."""
    if not names:
        return
    said = run(["systemctl", "show", f"--property={','.join(properties)}", "--", *names]).stdout
    for block in said.decode("utf-8", "replace").split("\n\n"):
        if block.strip():
            yield dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
