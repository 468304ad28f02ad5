"""`sf notify`: what a line says, how what is secret is read, and what is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from serverflow_cli.errors import Unreachable
from serverflow_cli.model.result import CommandResult, Reply, ServerResult

from .test_cli_run import CHANGED, FakeFlows, sf, watched

MAIL = "--sender sf@acme.app --to ana@acme.app"


class Adding(FakeFlows):
    """The flow of `sf notify add` as far as it asks for values."""

    def __init__(self) -> None:
        super().__init__(CHANGED)
        self.values: Mapping[str, str] = {}

    async def notify_add(
        self,
        _workspace: object,
        name: str,
        settings: Mapping[str, Any],
        wanted: list[str],
        values: Callable[[], Mapping[str, str]],
        how: Mapping[str, Any],
    ) -> CommandResult:
        self.calls.append((name, (settings, wanted), dict(how)))
        self.values = values()
        return CHANGED


def added(line: str, stdin: str = "") -> tuple[dict[str, Any], list[str], Mapping[str, str]]:
    flows = Adding()
    ended = sf(f"notify add {line} --yes", flows, stdin)
    assert ended.code == 0, ended.err
    ((_, (settings, wanted), _),) = flows.calls
    return settings, wanted, flows.values


def test_what_stands_in_the_stanza_and_what_is_secret() -> None:
    assert added("slack ops --stdin", "https://x/\n") == ({"provider": "slack"}, ["url"], {"url": "https://x/"})
    assert added(f"email ops --provider resend {MAIL} --to bob@acme.app --stdin", "re_1") == (
        {"provider": "resend", "sender": "sf@acme.app", "to": ["ana@acme.app", "bob@acme.app"]},
        ["token"],
        {"token": "re_1"},
    )
    assert added(
        f"email ops --provider smtp --host mx --port 587 --security tls {MAIL} --username u --stdin", "p\n"
    ) == (
        {
            "provider": "smtp",
            "host": "mx",
            "port": 587,
            "security": "tls",
            "sender": "sf@acme.app",
            "to": ["ana@acme.app"],
        },
        ["username", "password"],
        {"username": "u", "password": "p"},
    )
    own = "email ops --provider smtp --host localhost --security none"
    assert added(f"{own} {MAIL}")[1:] == ([], {})


@pytest.mark.parametrize(
    ("stdin", "values"),
    [
        ("https://x/\n", {"url": "https://x/"}),
        ("https://x/\r\n\r\n", {"url": "https://x/"}),
        ("https://x/\nwhsec_1\n", {"url": "https://x/", "secret": "whsec_1"}),
    ],
)
def test_a_webhook_may_come_without_its_secret(stdin: str, values: Mapping[str, str]) -> None:
    assert added("webhook hook --stdin", stdin) == ({"provider": "webhook"}, ["url", "secret"], values)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pager ops", "there is no channel of the kind 'pager'"),
        (f"email ops {MAIL}", "mail needs a provider"),
        (f"email ops --provider sendmail {MAIL}", "mail needs a provider"),
        ("slack ops --provider resend", "--provider is for email"),
        ("slack ops --to ana@acme.app", "--to is not for slack"),
        (f"email ops --provider resend --host mx {MAIL}", "--host is not for resend"),
        (f"email ops --provider smtp {MAIL}", "smtp needs --host"),
        ("email ops --provider resend", "resend needs --sender, --to"),
        (f"email ops --provider smtp --host mx --port 0 {MAIL}", "--port: 0 is not a port"),
        (f"email ops --provider smtp --host mx --stdin {MAIL}", "--stdin: without --username there is no password"),
    ],
)
def test_what_does_not_go_together(line: str, told: str) -> None:
    flows = Adding()
    ended = sf(f"notify add {line} --yes", flows)
    assert (ended.code, flows.calls) == (2, [])
    assert told in ended.err


def test_more_lines_than_there_are_values_are_no_value() -> None:
    ended = sf("notify add slack ops --stdin --yes", Adding(), "https://x/\nhttps://y/\n")
    assert (ended.code, "https" in ended.err) == (2, False)


def test_nobody_is_asked_where_nobody_is() -> None:
    ended = sf("notify add slack ops --yes", Adding())
    assert ended.code == 2
    assert "sf: hint: give it on stdin with --stdin" in ended.err


def typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    asked: list[str] = []
    given = iter(answers)

    def getpass(question: str, stream: object) -> str:
        asked.append(question)
        return next(given)

    monkeypatch.setattr("getpass.getpass", getpass)
    return asked


def test_values_are_asked_for_unseen_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = typed(monkeypatch, "https://x/", "https://x/", "")
    flows = Adding()
    assert watched("notify add webhook hook", flows).code == 0
    assert flows.values == {"url": "https://x/"}
    assert asked == [
        "hook: URL of the webhook: ",
        "Once more: ",
        "hook: Secret that signs it (empty for a new one): ",
    ]
    typed(monkeypatch, "https://x/", "https://y/")
    ended = watched("notify add slack ops", Adding())
    assert (ended.code, "the two are not the same" in ended.err) == (2, True)


def test_a_change_without_a_terminal_needs_yes() -> None:
    for line in ("add slack ops --stdin", "remove ops"):
        flows = Adding()
        ended = sf(f"notify {line}", flows, "https://x/")
        assert (ended.code, flows.calls, "sf: hint: add --yes" in ended.err) == (2, [], True)


def test_safe_options_and_plan_reach_the_flow() -> None:
    flows = FakeFlows(CHANGED)
    sf("notify remove ops --plan --safe --confirm-within 5m --timeout 1m --lock-wait 2m", flows)
    ((name, (_, channel, how, on), _),) = flows.calls
    assert (name, channel, on) == ("notify_remove", "ops", None)
    assert (how["plan"], how["timeout_s"], how["lock_wait_s"]) == (True, 60, 120)
    assert (how["safety"].wanted, how["safety"].within_s) == (True, 300)


def test_a_test_is_sent_without_asking() -> None:
    flows = FakeFlows(CommandResult("acme", servers=(ServerResult("web1", Reply("", "done", data={"sent": True})),)))
    assert sf("notify test ops --on web1 --timeout 20s", flows).code == 0
    ((name, arguments, options),) = flows.calls
    assert (name, arguments, options["selector"], options["timeout_s"]) == (
        "notify_test",
        ("workspace", "ops"),
        "web1",
        20,
    )
    assert sf("notify test ../x --on web1", FakeFlows(CHANGED)).code == 2


# --- status -----------------------------------------------------------------------------------------------------------

OPS = {
    "name": "ops", "provider": "slack", "where": "hooks.slack.com", "rules": ["*"], "problem": "",
    "sent": 1_700_000_000, "failed": 0, "said": "", "waiting": 0, "gave_up": 0, "next": 0,
}  # fmt: skip
NOTHING: dict[str, Any] = {"channels": [OPS], "spool": [], "spooled": 0, "open": []}
NOTHING["lost"] = {"count": 0, "at": 0}


def told(*answers: dict[str, Any]) -> FakeFlows:
    replies = (ServerResult(f"web{n}", Reply("", "done", data=data)) for n, data in enumerate(answers, 1))
    return FakeFlows(CommandResult("acme", servers=(*replies, ServerResult("db1", error=Unreachable("no answer")))))


def test_a_row_for_each_channel_on_each_server() -> None:
    refused = {**OPS, "failed": 1_700_000_060, "said": "HTTP 503", "waiting": 2, "next": 1_700_000_120}
    ended = sf("notify status", told(NOTHING, {**NOTHING, "channels": [refused]}))
    head, *rows = (line.split() for line in ended.out.splitlines())
    assert head == ["SERVER", "CHANNEL", "WHERE", "SENT", "AT", "WAITING", "GAVE", "UP", "NEXT", "AT", "SAID"]
    assert rows == [
        ["web1", "ops", "hooks.slack.com", "2023-11-14T22:13:20Z", "0", "0", "-", "-"],
        ["web2", "ops", "hooks.slack.com", "2023-11-14T22:13:20Z", "2", "0", "2023-11-14T22:15:20Z", "HTTP", "503"],
    ]
    assert "db1: no answer" in ended.err and "lost" not in ended.err
    document = sf("notify status --on web1 --json", told(NOTHING)).document
    assert document["servers"][0]["data"] == NOTHING


def test_what_is_wrong_is_told_beside_it() -> None:
    one = {"key": "cron.failed/report", "kind": "cron.failed", "severity": "error", "since": 1_700_000_000, "count": 3}
    letter = {
        "id": "1", "kind": "cron.failed", "key": "cron.failed/report", "severity": "error", "state": "open",
        "title": "report failed", "to": {"ops": {"state": "gave-up", "attempts": 3, "next": 0, "said": "HTTP 404"}},
    }  # fmt: skip
    ended = sf(
        "notify status", told({**NOTHING, "open": [one], "spool": [letter], "lost": {"count": 7, "at": 1_700_000_000}})
    )
    assert ended.err.splitlines()[:3] == [
        "sf: note: web1: error: cron.failed/report since 2023-11-14T22:13:20Z, 3 times",
        "sf: note: web1: ops did not get cron.failed/report (report failed): HTTP 404",
        "sf: note: web1: 7 alerts were lost: too many waited, or they were damaged",
    ]
    assert "no channels: sf notify add" in sf("notify status", told({**NOTHING, "channels": []})).err


@pytest.mark.parametrize(
    "odd",
    [
        {"channels": [1]},
        {"channels": "x"},
        {"channels": [{**OPS, "sent": "a", "failed": [], "next": None}]},
        {"open": [{"key": "k", "severity": "error"}, "x"]},
        {"open": 1},
        {"spool": [{"key": "k"}, {"to": [1]}, {"to": {"ops": {}, "b": 1, "c": {"state": "gave-up"}}}]},
        {"lost": 3},
        {"lost": {"count": "many"}},
    ],
)
def test_one_odd_server_does_not_hide_the_others(odd: dict[str, Any]) -> None:
    ended = sf("notify status", told({**NOTHING, **odd}, NOTHING))
    assert ended.code == 10, ended.err  # db1 cannot be reached
    assert any(row.startswith("web2    ops") for row in ended.out.splitlines()), ended.out
