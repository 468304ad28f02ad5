"""Safe changes as the client makes them, against a server that is nothing but its answers. Its time passes at once."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import selectors
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.change import Change
from serverflow_cli.config.load import parse
from serverflow_cli.errors import (
    ActionFailed,
    Locked,
    OutcomeUnknown,
    RolledBack,
    SfError,
    TrustError,
    Unreachable,
    UsageError,
)
from serverflow_cli.flows import safe
from serverflow_cli.flows.safe import USUAL, Safety, safety_of
from serverflow_cli.flows.safe_checks import before_confirming, failed_of
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import CommandResult, Reply, Request, ServerResult
from serverflow_cli.rpc import fanout
from serverflow_cli.rpc.call import Caller
from serverflow_cli.rpc.hello import Link

OP = "01JD0000000000000000000000"
CHANGE = Change("update", "file", "/etc/ssh/sshd_config.d/sf.conf", diff="-Port 22\n+Port 2222")
CHECK = "tcp 127.0.0.1:22"
LINK = cast("Link", SimpleNamespace(name="web1"))
T = TypeVar("T")


class _Impatient(selectors.DefaultSelector):
    """Where nothing is ready, the clock goes on instead of the process waiting."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.skipped += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return super().time() + self._impatient.skipped


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


@dataclass
class Server:
    """What a Caller reaches. After the change nothing of it can be reached between `away` seconds; `failing` is until
    when its check fails then.
    """

    away: tuple[float, float] = (0, 0)
    failing: float = 0
    fails_before: bool = False
    waits: str = ""
    loses: set[str] = field(default_factory=set)
    denies: set[str] = field(default_factory=set)
    changes: tuple[Change, ...] = (CHANGE,)
    refuses: SfError | None = None
    #: Its secrets, how its receipts say that the change ended, and whether a later change has taken its place.
    secrets: Mapping[str, str] = field(default_factory=lambda: {"password": "x"})
    ended: str = ""
    later: bool = False
    cannot_undo: str = ""
    undone_after: float = 0
    #: What could not be put back, and what of the change could not be finished.
    problems: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    #: What `op.status` comes to instead.
    state: Mapping[str, Any] | SfError | None = None
    asked: list[str] = field(default_factory=list)
    _changed_at: float = 0
    _within: float = 0
    _verdict: str = ""
    _connection: int = 0
    _changed_over: int = -1
    _kept: str = ""

    @property
    def pending(self) -> str:
        if self._changed_at and not self._verdict and self._since > self._within:
            self._verdict = "rolled-back"
        if self.later and self._changed_at:
            return "01JD0000000000000000000009"
        return "" if self._verdict or not self._within else self.waits

    @property
    def _since(self) -> float:
        return asyncio.get_running_loop().time() - self._changed_at

    def _reach(self) -> None:
        if self._changed_at and self.away[0] <= self._since < self.away[1]:
            raise Unreachable("no answer from 192.0.2.7", server="web1")

    async def hang_up(self, link: Link) -> None:
        self._connection += 1

    @asynccontextmanager
    async def hold(self, link: Link) -> AsyncIterator[None]:
        self._reach()
        yield

    async def greet(self, link: Link) -> Any:
        self._reach()
        self.asked.append("greet")
        return SimpleNamespace(pending=self.pending)

    async def call(self, link: Link, request: Request, op_id: str, version: int, report: Any) -> Reply:
        self._reach()
        report({"t": "op", "op": op_id})
        self.asked.append(request.action)
        if request.action in self.denies:
            denied = TrustError("the key may not", code="not-granted")
            denied.reply = Reply(op_id, "denied")
            raise denied
        reply = self._answer(request, op_id)
        if request.action in self.loses:
            self.loses.discard(request.action)
            raise OutcomeUnknown("the connection was lost", server="web1", hint=f"sf op follow {op_id}")
        if reply.outcome == "pending-confirm":
            unknown = OutcomeUnknown("", server="web1", code="pending-confirm")
            unknown.reply = reply
            raise unknown
        return reply

    def _answer(self, request: Request, op_id: str) -> Reply:
        if request.action == "safe.check":
            fails = self._since < self.failing if self._changed_at else self.fails_before
            said = "connection refused" if fails else "it answers"
            fails_of = {check: fails and check == CHECK for check in request.params["expect"]}
            results = [{"check": check, "ok": not failed, "said": said} for check, failed in fails_of.items()]
            return Reply(op_id, "done", data={"results": results})
        if request.action == "safe.show":
            if not self.ended:
                raise _answered(TrustError("no safe change", code="bad-params"))
            return Reply(op_id, "done", data={"ended": self.ended, "by": "ben", "problems": list(self.problems)})
        if request.action == "safe.rollback" and self.cannot_undo:
            raise _answered(ActionFailed(self.cannot_undo))
        if request.action == "safe.confirm":
            if self.later:
                raise _answered(ActionFailed("no change waits for confirmation"))
            if not self._changed_at and not self._verdict:
                raise _answered(TrustError("the key may not", code="not-granted"))
            if self.pending and self._connection == self._changed_over:
                raise ActionFailed("this connection is older than the change; confirm over a new one")
            if self._verdict == "rolled-back":
                raise RolledBack("too late: the change was rolled back")
            self._verdict = "confirmed"
            return Reply(op_id, "done", data={"left": list(self.left)} if self.left else {})
        if request.action == "safe.rollback":
            self._verdict, self.undone_after = "rolled-back", self._since
            return Reply(op_id, "rolled-back", data={"problems": list(self.problems)})
        if request.action == "op.status" and isinstance(self.state, SfError):
            raise self.state
        if request.action == "op.status" and isinstance(self.state, Mapping):
            return Reply(op_id, "done", data=self.state)
        if request.action == "op.status":
            kept = {"state": "ended", "body": self._kept, "sig": base64.b64encode(b"s").decode()}
            return Reply(op_id, "done", data=kept, receipt={"finished_at": 1_000 + int(self._since * 1000)})
        return self._change(request, op_id)

    def _change(self, request: Request, op_id: str) -> Reply:
        if self.refuses:
            raise self.refuses
        self.waits, self._changed_over = op_id, self._connection
        self._changed_at, self._within = asyncio.get_running_loop().time(), request.confirm_s
        outcome = "pending-confirm" if request.confirm_s else "done"
        body = {
            "outcome": outcome,
            "code": "",
            "action": request.action,
            "changes": [change.as_json() for change in self.changes],
            "data": {"port": 2222},
            "finished_at": 1_000,
            "safe": {"deadline": 1_000 + request.confirm_s * 1000},
        }
        self._kept = json.dumps(body)
        return Reply(op_id, outcome, self.changes, {"port": 2222}, self.secrets, receipt=body)

    def keep_receipt(self, link: Link, op_id: str, body: bytes, sig: bytes) -> dict[str, Any]:
        return dict(json.loads(body))


def _answered(error: SfError) -> SfError:
    """As the server's own answer, and not as what became of the connection."""
    error.reply = Reply(OP, "failed")
    return error


def change(server: Server, safety: Safety = USUAL, *, confirm_s: int = 120, events: Any = None) -> Reply:
    request = Request("user.create", {"name": "ana"}, confirm_s=confirm_s)
    report = events.append if events is not None else lambda event: None
    return run(safe.call(cast("Caller", server), LINK, request, OP, 1, report, safety))


def checked(**options: Any) -> Safety:
    return Safety(checks={"web1": (CHECK,), "db1": ("unit postgresql active",)}, **options)


def test_a_change_is_confirmed_over_a_new_connection() -> None:
    server, events = Server(), list[Mapping[str, Any]]()
    reply = change(server, events=events)
    assert (reply.outcome, reply.changes, reply.data) == ("done", (CHANGE,), {"port": 2222})
    assert (reply.secrets, reply.notes) == ({"password": "x"}, ("confirmed over a new connection",))
    assert server.asked == ["user.create", "greet", "safe.confirm"]
    assert [event["op"] for event in events if event["t"] == "op"] == [OP]
    assert "confirming over a new connection" in [event.get("doing") for event in events]


def test_what_is_expected_of_this_server_is_tried_before_and_after() -> None:
    server = Server()
    assert change(server, checked()).outcome == "done"
    assert server.asked == ["safe.check", "user.create", "greet", "safe.check", "safe.confirm"]


def test_many_checks_are_asked_in_parts() -> None:
    server = Server()
    ports = tuple(f"tcp 127.0.0.1:{port}" for port in range(1, 18))
    change(server, Safety(checks={"web1": ports}))
    assert server.asked.count("safe.check") == 4


def test_a_check_that_fails_already_does_not_count() -> None:
    """What the change is to repair must not keep it from being made."""
    server = Server(fails_before=True, failing=1000)
    reply = change(server, Safety(checks={"web1": (CHECK, "unit cron active")}))
    assert reply.notes == (
        f"failed before the change already, so it does not count: {CHECK} (connection refused)",
        "confirmed over a new connection",
    )


def test_what_held_before_must_still_hold() -> None:
    server = Server(failing=1000)
    with pytest.raises(RolledBack, match=r"tcp 127.0.0.1:22 \(connection refused\): fails after the change"):
        change(server, Safety(checks={"web1": ("unit cron active", CHECK)}))


def test_a_check_may_take_a_moment_after_the_change() -> None:
    assert change(Server(failing=5), checked()).outcome == "done"


def test_a_check_that_fails_after_the_change_undoes_it() -> None:
    server = Server(failing=1000)
    with pytest.raises(RolledBack, match=r"tcp 127.0.0.1:22 \(connection refused\): fails after the change") as caught:
        change(server, checked())
    assert server.asked[-1] == "safe.rollback"
    assert "safe.confirm" not in server.asked
    reply = cast("Reply", caught.value.reply)
    assert (reply.outcome, reply.changes, reply.secrets) == ("rolled-back", (CHANGE,), {})


def test_a_server_that_is_away_for_a_while_is_confirmed_all_the_same() -> None:
    assert change(Server(away=(0, 100))).outcome == "done"


def test_a_server_that_cannot_be_reached_goes_back() -> None:
    server = Server(away=(0, 125))
    with pytest.raises(RolledBack, match="it could not be reached over a new connection, and has gone back"):
        change(server)


def test_a_server_that_stays_away_leaves_it_open() -> None:
    with pytest.raises(OutcomeUnknown, match=r"cannot be reached .*no answer from 192\.0\.2\.7") as caught:
        change(Server(away=(0, 10_000)))
    assert (caught.value.code, caught.value.exit_code) == ("pending-confirm", 13)
    assert re.search(r"it was due to be undone at \d\d:\d\d:\d\d; see sf safe status", caught.value.message)
    reply = cast("Reply", caught.value.reply)
    assert (reply.changes, reply.secrets) == ((CHANGE,), {})
    assert reply.data["safe"] == {"deadline": 121_000}


@pytest.mark.parametrize(
    ("secrets", "hint"),
    [
        ({}, f"sf safe show {OP} --on web1"),
        ({"password": "x"}, f"what it made cannot be shown: sf safe rollback {OP} --on web1, then run it again"),
    ],
)
def test_what_was_made_is_shown_only_once_it_counts(secrets: dict[str, str], hint: str) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        change(Server(secrets=secrets, denies={"safe.confirm"}))
    assert caught.value.hint == hint
    assert cast("Reply", caught.value.reply).secrets == {}


def test_without_confirming_it_waits_for_somebody() -> None:
    server = Server()
    with pytest.raises(OutcomeUnknown, match=r"waits for confirmation until \d\d:\d\d:\d\d") as caught:
        change(server, checked(confirm=False))
    assert (caught.value.code, caught.value.hint) == ("pending-confirm", f"sf safe confirm {OP} --on web1")
    reply = cast("Reply", caught.value.reply)
    assert (reply.secrets, reply.data) == ({"password": "x"}, {"port": 2222, "safe": {"deadline": 121_000}})
    assert server.asked == ["safe.check", "user.create"]


def test_while_another_change_waits_it_is_refused() -> None:
    server = Server(refuses=Locked("a safe change waits for confirmation", code="pending-change"))
    with pytest.raises(Locked) as caught:
        change(server)
    assert (caught.value.exit_code, server.asked) == (8, ["user.create"])


class Busy(Caller):
    """A server on which somebody's safe change waits for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.sent, self._end = 0, asyncio.get_running_loop().time() + seconds

    @property
    def _pending(self) -> str:
        return OP if asyncio.get_running_loop().time() < self._end else ""

    async def greet(self, link: Link) -> Any:
        return SimpleNamespace(pending=self._pending)

    async def _call(self, link: Link, request: Request, op_id: str, version: int, report: Any) -> Reply:
        self.sent += 1
        if self._pending:
            raise Locked("a safe change waits for confirmation", code="pending-change")
        return Reply(op_id, "done")


async def in_turn(waits_s: float, lock_wait_s: int) -> int:
    """How often a change was sent to such a server."""
    busy = Busy(waits_s)
    await busy.call(LINK, Request("user.create", lock_wait_s=lock_wait_s), OP, 1, lambda _: None)
    return busy.sent


def test_a_change_waits_for_its_turn_as_for_a_lock() -> None:
    assert run(in_turn(0, 0)) == 1
    assert run(in_turn(20, 30)) == 2
    for lock_wait_s in (0, 30):
        with pytest.raises(Locked) as caught:
            run(in_turn(1000, lock_wait_s))
        assert caught.value.code == "pending-change"
    assert caught.value.hint == f"sf safe status; then sf safe confirm {OP} or sf safe rollback {OP} --on web1"


def test_somebody_else_undid_it_meanwhile() -> None:
    server = Server()
    server._verdict = "rolled-back"
    with pytest.raises(RolledBack, match="it was not confirmed, and has gone back"):
        change(server)


@pytest.mark.parametrize("ended", ["confirmed", "rolled-back", "pending", "unknown", ""])
def test_once_a_later_change_waits_there_the_receipts_say_how_it_ended(ended: str) -> None:
    """A server keeps the verdict on its last change only. Only its word that it went back is told as that."""
    server = Server(later=True, ended=ended)
    if ended == "confirmed":
        assert change(server).notes == ("confirmed by ben",)
        return
    with pytest.raises(RolledBack if ended == "rolled-back" else OutcomeUnknown) as caught:
        change(server)
    assert caught.value.exit_code == (12 if ended == "rolled-back" else 13)
    assert server.asked[-2:] == ["safe.confirm", "safe.show"]


@pytest.mark.parametrize("ended", ["confirmed", "rolled-back", "pending"])
def test_when_it_cannot_be_undone_any_more(ended: str) -> None:
    server = Server(failing=1000, ended=ended, cannot_undo="too late: the change was decided")
    if ended == "confirmed":
        (note,) = change(server, checked()).notes
        assert note == f"{CHECK} (connection refused): fails after the change; confirmed by ben"
        return
    with pytest.raises(RolledBack if ended == "rolled-back" else OutcomeUnknown, match="fails after the change"):
        change(server, checked())


def test_a_short_countdown_leaves_time_to_undo() -> None:
    server = Server(failing=1000)
    with pytest.raises(RolledBack, match="fails after the change, so it was undone"):
        change(server, checked(within_s=10), confirm_s=10)
    assert server.asked[-1] == "safe.rollback"
    assert server.undone_after < 4


def test_the_deadline_is_one_moment_however_late_it_is_told() -> None:
    """The server's countdown began long before its answer was heard, and goes on while others are tried."""
    server = Server(loses={"user.create"}, away=(0, 100), denies={"safe.confirm"}, secrets={})
    before = datetime.now().astimezone()
    with pytest.raises(OutcomeUnknown) as caught:
        change(server)
    told = re.search(r"it is undone at (\d\d:\d\d:\d\d)", caught.value.message)
    assert told
    within = {f"{before + timedelta(seconds=seconds):%H:%M:%S}" for seconds in range(25)}
    assert told[1] in within  # of 120 s, 100 were over; the clock on the wall did not go on


def test_it_is_told_that_a_change_is_confirmed() -> None:
    events = list[Mapping[str, Any]]()
    change(Server(), events=events)
    assert {"t": "confirmed", "server": "web1"} in events


def test_whoever_confirms_by_hand_says_that_the_checks_hold() -> None:
    server = Server(failing=1000)

    async def confirming(op_id: str) -> None:
        server._change(Request("user.create", confirm_s=120), OP)
        await before_confirming(cast("Caller", server), LINK, op_id, (CHECK,), lambda _: None)

    with pytest.raises(ActionFailed, match=r"\(connection refused\): fails, so it was not confirmed") as caught:
        run(confirming(OP))
    assert (caught.value.code, "--no-checks" in caught.value.hint) == ("check-failed", True)
    run(confirming("01JD0000000000000000000008"))  # it waits no more, and how it ended is to be told


def test_an_answer_that_was_lost_is_asked_for() -> None:
    server = Server(loses={"user.create"}, away=(0, 30))
    reply = change(server, checked())
    assert (reply.outcome, reply.changes, reply.data) == ("done", (CHANGE,), {"port": 2222})


def test_an_answer_that_was_lost_for_good() -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        change(Server(loses={"user.create"}, away=(0, 10_000)))
    assert caught.value.hint.startswith(f"sf op follow {OP}; ")
    assert f"sf safe confirm {OP} --on web1" in caught.value.hint


LIMITED = {"op.status", "safe.show", "safe.status"}


def test_a_key_that_may_not_ask_confirms_its_own_all_the_same() -> None:
    server = Server(loses={"user.create"}, denies=LIMITED)
    reply = change(server, checked())
    assert (reply.op_id, reply.outcome) == (OP, "done")
    assert reply.notes[1:] == ("confirmed over a new connection",) and "may not ask for it" in reply.notes[0]
    assert server.asked[2:] == ["op.status", "greet", "greet", "safe.check", "safe.confirm"]


def test_a_key_that_may_not_ask_hears_that_it_has_gone_back() -> None:
    with pytest.raises(RolledBack, match="has gone back"):
        change(Server(loses={"user.create"}, denies=LIMITED, away=(0, 125)))


def test_a_key_that_may_not_ask_leaves_it_to_others_where_they_are_to_confirm() -> None:
    server = Server(loses={"user.create"}, denies=LIMITED, away=(0, 100))
    with pytest.raises(OutcomeUnknown, match="waits for confirmation until") as caught:
        change(server, checked(confirm=False))
    assert (caught.value.code, OP in caught.value.hint) == ("pending-confirm", True)
    assert "safe.confirm" not in server.asked


def test_a_key_that_may_neither_ask_nor_confirm() -> None:
    with pytest.raises(OutcomeUnknown, match="this key cannot confirm it") as caught:
        change(Server(loses={"user.create"}, denies={*LIMITED, "safe.confirm"}))
    assert (caught.value.exit_code, OP in caught.value.hint) == (13, True)


@pytest.mark.parametrize(
    "state",
    [
        TrustError("the host key is another one"),
        ActionFailed("broken"),
        {"state": "ended", "body": 5},
        {"state": "indeterminate"},
        {"state": "unknown"},
    ],
)
def test_whatever_goes_wrong_after_a_lost_answer_leaves_it_open(state: Mapping[str, Any] | SfError) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        change(Server(loses={"user.create"}, state=state))
    assert (caught.value.exit_code, OP in caught.value.hint) == (13, True)


PROBLEM = "/etc/x: No space left on device"


@pytest.mark.parametrize("later", [False, True])
def test_what_could_not_be_put_back_is_told(later: bool) -> None:
    left = f"; not all could be put back: {PROBLEM}"
    server = Server(ended="rolled-back", problems=(PROBLEM,), away=(0, 125), later=later)
    with pytest.raises(RolledBack) as caught:
        change(server)
    assert caught.value.message.endswith(f"has gone back{left}")
    with pytest.raises(RolledBack) as caught:
        change(Server(failing=1000, problems=(PROBLEM,)), checked())
    assert caught.value.message.endswith(f"so it was undone{left}")


def test_what_could_not_be_finished_is_told() -> None:
    notes = change(Server(left=("/var/old: Device or resource busy",))).notes
    assert notes[1:] == ("it counts, but was not finished: /var/old: Device or resource busy",)


def test_a_key_that_may_not_try_the_checks_hears_what_it_lacks() -> None:
    for key, named in (("ci", "ci"), ("", "NAME")):
        server = Server(denies={"safe.check"})
        with pytest.raises(TrustError) as caught:
            change(server, checked(key=key))
        assert caught.value.hint == f"sf key grant {named} --allow safe.check --on web1"
        assert server.asked == ["safe.check"]


def test_whoever_confirms_by_hand_may_go_without_the_checks() -> None:
    async def confirming() -> None:
        server = Server(denies={"safe.check"})
        server._change(Request("user.create", confirm_s=120), OP)
        await before_confirming(cast("Caller", server), LINK, OP, (CHECK,), lambda _: None)

    with pytest.raises(TrustError) as caught:
        run(confirming())
    assert caught.value.hint.endswith(f"without the checks: sf safe confirm {OP} --on web1 --no-checks")


class Slow:
    """As a Workspace: web1 is through at once, what there is beside it takes so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def on_all(self, names: list[str], work: Any, report: Any) -> tuple[ServerResult, ...]:
        async def other(_: Link) -> Reply:
            await asyncio.sleep(self.seconds)
            return Reply(OP, "done")

        links = [cast("Link", SimpleNamespace(name=name)) for name in names]
        first, *others = await asyncio.gather(
            *(fanout.on_all([link], work if link.name == "web1" else other, report) for link in links)
        )
        return (*first, *(one for part in others for one in part))


@pytest.mark.parametrize(
    ("names", "seconds", "late"), [(["web1"], 0, False), (["web1", "db1"], 5, False), (["web1", "db1"], 500, True)]
)
def test_whoever_is_to_confirm_hears_of_it_when_it_is_so(names: list[str], seconds: float, late: bool) -> None:
    server, events = Server(), list[Mapping[str, Any]]()

    async def work(link: Link, safety: Safety) -> Reply:
        request = Request("user.create", {"name": "ana"}, confirm_s=120)
        return await safe.call(cast("Caller", server), link, request, OP, 1, events.append, safety)

    workspace = cast("Workspace", Slow(seconds))
    (web1, *_) = run(safe.on_all(workspace, names, work, events.append, Safety(confirm=False)))
    told = [str(event["text"]) for event in events if event["t"] == "note"]
    assert len(told) == len(names) - 1
    for text in told:
        assert re.fullmatch(rf"waits for confirmation until \d\d:\d\d:\d\d: sf safe confirm {OP} --on web1", text)
    wording = "it was due to be undone at" if late else "waits for confirmation until"
    assert web1.error and web1.error.message.startswith(wording)


def test_a_confirmation_whose_answer_was_lost_counts() -> None:
    server = Server(loses={"safe.confirm"})
    assert change(server).outcome == "done"
    assert server.asked == ["user.create", "greet", "safe.confirm", "greet", "safe.confirm"]


def test_a_key_that_may_not_confirm_says_so_at_once() -> None:
    server = Server(denies={"safe.confirm"})
    with pytest.raises(OutcomeUnknown, match="this key cannot confirm it: the key may not"):
        change(server)
    assert server.asked.count("safe.confirm") == 1


def test_a_server_that_answers_something_else_than_its_checks() -> None:
    for results in (None, 5, [], [{"check": CHECK}], [{"check": "other", "ok": True, "said": ""}], [None]):
        with pytest.raises(TrustError):
            failed_of([CHECK], results, LINK)
    assert failed_of([CHECK], [{"check": CHECK, "ok": 1, "said": "x"}], LINK) == {CHECK: "x"}


def test_another_change_is_only_sent() -> None:
    server = Server()
    assert change(server, checked(), confirm_s=0).outcome == "done"
    assert server.asked == ["user.create"]


UPGRADE = (Change("update", "package", "all", {"openssh-server": ("1", "2"), "curl": ("7", "8")}),)


def test_after_an_upgrade_of_sshd_a_new_connection_is_made() -> None:
    server = Server(changes=UPGRADE, away=(0, 20))
    assert change(server, confirm_s=0).outcome == "done"
    assert server.asked == ["user.create", "greet"]
    with pytest.raises(OutcomeUnknown, match="openssh-server changed, and since then it takes no commands: no answer"):
        change(Server(changes=UPGRADE, away=(0, 10_000)), confirm_s=0)


@pytest.mark.parametrize(
    ("action", "params", "wanted", "seconds"),
    [
        ("service.stop", {"unit": "ssh"}, False, 90),
        ("service.stop", {"unit": "nginx.service"}, False, 0),
        ("service.stop", {"unit": "nginx.service"}, True, 90),
        ("service.start", {"unit": "nftables"}, False, 90),
        ("service.enable", {"unit": "ufw.service"}, False, 90),
        ("service.start", {"unit": "nginx"}, False, 0),
        ("user.add-key", {"name": "ana"}, False, 90),
        ("service.list", {}, False, 0),
    ],
)
def test_what_is_a_safe_change(action: str, params: dict[str, Any], wanted: bool, seconds: int) -> None:
    assert safety_of(registry.load(action), params, Safety(wanted=wanted, within_s=90)) == seconds


@pytest.mark.parametrize("action", ["service.list", "service.restart", "server.leave", "op.list"])
def test_what_can_be_none(action: str) -> None:
    with pytest.raises(UsageError, match=f"{action} cannot be a safe change: it "):
        safety_of(registry.load(action), {}, Safety(wanted=True))


def test_how_long_what_need_not_be_one_may_wait() -> None:
    hour, minutes = (Safety(wanted=True, within_s=seconds) for seconds in (3600, 600))
    assert safety_of(registry.load("service.stop"), {"unit": "ssh"}, hour) == 3600
    assert safety_of(registry.load("service.stop"), {"unit": "nginx"}, minutes) == 600
    with pytest.raises(UsageError, match=r"service.stop need not be a safe change: as one it waits for 10m at most"):
        safety_of(registry.load("service.stop"), {"unit": "nginx"}, hour)


FLEET = """
schema = 1
[servers.web1]
host = "192.0.2.7"
[servers.db1]
host = "192.0.2.8"
[checks.login]
on = "all"
expect = ["tcp 127.0.0.1:22", "unit ssh active"]
[checks.shop]
on = "web1"
expect = ["http http://127.0.0.1/ 200", "unit ssh active"]
"""


def test_the_checks_of_each_server() -> None:
    workspace = cast("Workspace", SimpleNamespace(fleet=parse(FLEET), key_name="ci"))
    assert safe.with_checks(workspace, USUAL).checks == {
        "web1": ("tcp 127.0.0.1:22", "unit ssh active", "http http://127.0.0.1/ 200"),
        "db1": ("tcp 127.0.0.1:22", "unit ssh active"),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [('"unit ssh active"]\n[', '"unit ssh up"]\n['), ('on = "web1"', 'on = "web9"'), ("expect", "expects")],
)
def test_checks_that_cannot_be(old: str, new: str) -> None:
    with pytest.raises(SfError, match="checks"):
        parse(FLEET.replace(old, new, 1))


def test_a_plan_says_that_it_would_be_undone() -> None:
    planned = CommandResult("acme", servers=(ServerResult("web1", Reply("", "done", (CHANGE,))),))
    assert safe.told_before(planned, 120).notes == ("safe change: undone by itself unless confirmed within 2m",)
    assert safe.told_before(planned, 0).notes == ()
    assert safe.told_before(CommandResult("acme"), 90).notes == ()
    assert [safe.undone_within(seconds).split()[-1] for seconds in (90, 3600, 60)] == ["90s", "1h", "1m"]
