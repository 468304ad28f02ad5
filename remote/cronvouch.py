"""Who answers for a job, and whether they still may.

A voucher is a file named after the SHA-256 of a job's exact content. The executor writes it when an operation that it
ran has put that content in place, with what was asked for and by whom. A job without one was written by somebody else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import layout
import store
from cronjobs import Found, everything, read

_KEPT = 500


class Standing(NamedTuple):
    """Whether a job may run. `problem` is "" when it may, `changed` when nobody vouches for its content, `disabled`
    when whoever does may not; `said` explains. `lasts` is False where time alone may mend it, or the clock that goes
    wrong: a key outside its dates, which has `expired` where they are over. `op`, `name` and `key` tell who installed
    it, when that is known, and `since` when, in ms.
    """

    problem: str
    said: str = ""
    op: str = ""
    name: str = ""
    key: str = ""
    since: int = 0
    lasts: bool = True
    expired: bool = False


def _folder() -> str:
    return f"{layout.CRON_STATE}/installed"


def _voucher(content: bytes) -> str:
    return f"{_folder()}/{hashlib.sha256(content).hexdigest()}"


def _vouched(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(store.read_file(_voucher(content)) or b"null")
        return found if isinstance(found, dict) else None
    except ValueError:
        return None


def vouch(job: Mapping[str, Any]) -> None:
    """What the executor has just put in place counts as installed by who asked for it; `job` is the executor's. The
    first voucher that still holds stays. Raises OSError: then it does not run, and an alert says so.
    """
    about, params = job["about"], dict(job["params"])
    found = read(str(params["name"]))
    if found is None or found.job is None:
        return
    if not standing(found).problem:
        return
    os.makedirs(_folder(), mode=0o700, exist_ok=True)
    entry = {
        "job": found.name, "op": about["op_id"], "key": about["actor"]["key"], "name": about["actor"]["name"],
        "at": store.now_ms(), "action": job["action"], "params": params,
    }  # fmt: skip
    store.write_file(_voucher(found.content), store.encode(entry))
    _prune()


def _prune() -> None:
    """Those of earlier contents stay for a while: a rollback puts such a content back."""
    in_use = {_voucher(one.content) for one in everything()}
    others = [path for path in (f"{_folder()}/{name}" for name in os.listdir(_folder())) if path not in in_use]
    for path in sorted(others, key=lambda path: os.lstat(path).st_mtime_ns)[:-_KEPT]:
        os.unlink(path)


def standing(found: Found, trust: Any = None) -> Standing:
    """By this trust file, or else the one in force. What a key's grants are compared with is what it asked for. Raises
    OSError or ValueError where the trust file or the server's id cannot be read.
    """
    if found.job and not found.job.enabled and found.job.disabled_because:
        return Standing("disabled", found.job.disabled_because)  # our own doing, for which nobody vouches
    voucher = _vouched(found.content)
    if found.job is None or voucher is None or voucher.get("job") != found.name:
        what = "is damaged" if found.job is None else "was changed by hand, or its installation was cut off"
        return Standing("changed", f"{layout.CRON}/{found.name}.json {what}: apply it again (sf apply --only cron)")
    by = _no_longer(voucher, trust)
    return by._replace(op=str(voucher["op"]), name=str(voucher["name"]), key=str(voucher["key"]), since=voucher["at"])


def _no_longer(voucher: Mapping[str, Any], trust: Any) -> Standing:
    """Whether whoever vouched still may: somebody of that name. The name counts: keys are rotated."""
    import authorise
    import trust_store
    from serverflow_actions.kit.scheduled import parameters

    if trust is None:
        trust = trust_store.current()
    server_id = (store.read_file(layout.SERVER_ID) or b"").decode().strip()
    if not server_id:
        raise ValueError("this server's id is missing")  # no grant would name it
    name, action, params, now = voucher["name"], voucher["action"], voucher["params"], store.now_ms()
    wanted = [(action, params)]
    if action == "cron.add":
        wanted.append((params["action"], parameters(params.get("params", ()))))
    keys = [key for key in trust.command if key.name == name]
    if not keys:
        return Standing("disabled", f"the key {name}, which installed it, is not in the trust file any more")
    valid = [key for key in keys if key.not_before <= now < key.expires]
    if not valid:
        said = f"the key {name}, which installed it, is outside its dates"
        # One whose time has not come: the clock is wrong, or was.
        return Standing("disabled", said, lasts=False, expired=all(now >= key.expires for key in keys))
    for key in valid:
        if all(authorise.granted(key, *one, server_id) for one in wanted):
            return Standing("")
    said = f"the key {name}, which installed it, may not run {' or '.join(one for one, _ in wanted)} here any more"
    return Standing("disabled", said)
