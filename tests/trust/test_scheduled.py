"""Parameters as KEY=VALUE, and the folders and files that the areas cron and notify leave for the server's side."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

import channels
import sandbox
from serverflow_actions import registry
from serverflow_actions.kit import cronjob, scheduled

CASES = Path(registry.__file__).parent


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([], {}),
        (["unit=nginx"], {"unit": "nginx"}),
        (["a=", "b=c=d", "e= f "], {"a": "", "b": "c=d", "e": " f "}),
        (["names=curl", "unit=x", "names=jq"], {"names": ["curl", "jq"], "unit": "x"}),
        (["text=a\nb"], {"text": "a\nb"}),
    ],
)
def test_pairs(pairs: list[str], found: dict[str, Any]) -> None:
    assert scheduled.parameters(pairs) == found


@pytest.mark.parametrize("pair", ["", "unit", "=x", "Unit=x", "-u=x", "un it=x", " unit=x", "unit\n=x", "\u0433=x"])
def test_what_is_no_pair(pair: str) -> None:
    with pytest.raises(ValueError, match="is not a parameter such as unit=nginx"):
        scheduled.parameters(["a=b", pair])


@pytest.mark.parametrize(
    ("action", "pairs", "found"),
    [
        ("package.install", ["names=curl"], {"names": ["curl"]}),
        ("package.install", ["names=curl", "names=jq"], {"names": ["curl", "jq"]}),
        ("service.restart", ["unit=nginx"], {"unit": "nginx"}),
    ],
)
def test_what_takes_several_values_gets_a_list(action: str, pairs: list[str], found: dict[str, Any]) -> None:
    assert scheduled.arguments(registry.load(action), pairs) == found
    assert scheduled.check(registry.load(action), pairs) == found


def test_nothing_that_changes_who_may_do_what_or_needs_people_can_be_scheduled() -> None:
    """A new action is one of these, or is looked at here."""
    never = {name for name in registry.names() if _why(name)}
    assert set(registry.names()) - never == {
        "app.clear-cache", "app.create", "package.install", "service.disable", "service.enable", "service.reload",
        "service.restart", "service.start", "service.stop", "system.hostname", "system.reboot", "system.timezone",
        "system.update",
    }  # fmt: skip


def _why(name: str) -> str:
    try:
        scheduled.check(registry.load(name), [])
    except ValueError as error:
        return "" if str(error).startswith("parameters of") else str(error)
    return ""


def test_the_folders_of_jobs_and_channels_are_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("firewall", "cron", "notify", "apps", "trust")
    pattern = sandbox._DROP_IN.pattern.replace("/etc/", re.escape(f"{tmp_path}/etc/"))
    monkeypatch.setattr(sandbox, "_DROP_IN", re.compile(pattern))
    monkeypatch.setattr(sandbox, "_PRIVATE", [f"{tmp_path}{path}" for path in sandbox._PRIVATE])
    (tmp_path / "etc/serverflow").mkdir(parents=True)
    folders = [f"{tmp_path}/etc/serverflow/{name}" for name in names]
    assert sandbox.make_drop_ins(folders) == folders[:3]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "etc/serverflow").iterdir()}
    assert modes == {"firewall": 0o755, "cron": 0o700, "notify": 0o700}
    assert sandbox.make_drop_ins(folders) == []


def _left(area: str, verb: str, folder: str) -> list[tuple[str, str]]:
    """Names and contents of the files that cases say are there afterwards."""
    found = []
    for path in sorted((CASES / area / "cases" / verb).glob("*.json")):
        files = json.loads(path.read_text())["expect"].get("after", {}).get("files", {})
        contents = ((name, each["content"] if isinstance(each, dict) else each) for name, each in files.items()
                    if each and (isinstance(each, str) or "content" in each))  # fmt: skip
        found += [(Path(name).stem, text) for name, text in contents if Path(name).parent == Path(folder)]
    assert found
    return found


def test_the_server_can_read_each_channel_that_is_put_there() -> None:
    left = _left("notify", "set", "/etc/serverflow/notify")
    read = [channels.parse(text.encode(), name) for name, text in left]
    assert {channel.provider for channel in read} == {"slack", "webhook", "smtp", "resend"}
    for channel, (_, text) in zip(read, left, strict=True):
        written = json.loads(text)["settings"]
        assert {key: channel.settings[key] for key in written} == written


@pytest.mark.parametrize("verb", ["add", "command"])
def test_the_server_can_read_each_job_that_is_put_there(verb: str) -> None:
    for name, text in _left("cron", verb, "/etc/serverflow/cron"):
        if text != "{":
            assert cronjob.from_json(text.encode()).as_json() == text, name
