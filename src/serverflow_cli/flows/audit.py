"""The chains of receipts: the operator's own, and each server's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry

from ..errors import TrustError, Unreachable
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request
from .times import rfc3339
from .workspace import RETIRED, Workspace

if TYPE_CHECKING:
    from ..config.pins import Pin
    from ..rpc.call import Caller
    from ..rpc.hello import Link
    from ..trust.receipts import Entry
    from ..trust.serverchain import Head, Own, ServerChain

_SHOWN = 50
#: A server closes a segment at 8 MiB; a full disk may keep it from that for a while. The checkpoints are for ever.
_LONGEST_SEGMENT = 64 << 20
#: Segments after those that have a checkpoint: the open one, what a crash or a full disk has left without its
#: checkpoint, and one that is closed while we read.
_UNCHECKED = 3
#: How long one reading may take: at first, for each segment, and for what came, in bytes a second.
_FIRST_S, _SEGMENT_S, _SLOWEST = 120.0, 15.0, 20_000
#: The end of the year 9999, in ms.
_LATEST_MS = 253_402_300_799_999


@dataclass(frozen=True)
class Query:
    """Which receipts to show. What is "" or None lets all through; `since` in ms since 1970, by the servers' clocks."""

    servers: str | None = None
    actor: str = ""
    action: str = ""
    outcome: str = ""
    since: int | None = None
    limit: int = 20

    def matches(self, receipt: Mapping[str, Any]) -> bool:
        """Whether it is one of these; its server is not looked at."""
        return (
            (not self.actor or receipt["actor"]["name"] == self.actor)
            and (not self.action or fnmatchcase(receipt["action"], self.action))
            and (not self.outcome or receipt["outcome"] == self.outcome)
            and (self.since is None or receipt["finished_at"] >= self.since)
        )


async def log(workspace: Workspace, query: Query) -> CommandResult:
    """Receipts, the newest first: who did what where, and how it ended. Raises UsageError for an unknown server."""
    from ..trust import receipts

    names = {pin.server_id: name for name, pin in workspace.pins.items() if pin.server_id}
    wanted = None if query.servers is None else _server_ids(workspace, query.servers)
    rows = _rows(receipts.newest(workspace.chain), query, wanted, names)
    return CommandResult(workspace.label, data={"receipts": list(islice(rows, query.limit))})


def _server_ids(workspace: Workspace, selector: str) -> set[str]:
    """A server that has left is named as its pin is: it is in no role and matches no pattern."""
    left = workspace.pins.get(selector) if selector.startswith(RETIRED) else None
    names = [selector] if left else workspace.select(selector)
    return {workspace.pins[name].server_id for name in names if name in workspace.pins}


def _rows(
    entries: Iterator[Entry], query: Query, wanted: set[str] | None, names: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if wanted is not None and entry.server not in wanted:
            continue
        receipt = entry.receipt
        if query.matches(receipt):
            yield {**_row(receipt, names.get(entry.server, entry.server[:12])), "server_id": entry.server}


def _row(receipt: Mapping[str, Any], server: str) -> dict[str, Any]:
    return {
        "at": rfc3339(receipt["finished_at"]),
        "server": server,
        "seq": receipt["seq"],
        "actor": receipt["actor"]["name"],
        "action": receipt["action"],
        "outcome": receipt["outcome"],
        "op": receipt["op_id"],
        "mode": receipt["mode"],
        "key": receipt["actor"]["key"],
        "says": receipt["actor"]["says"],
        "code": receipt["code"],
        "message": receipt["message"],
        "trigger": receipt["trigger"],
        "versions": {**receipt["versions"], "action": receipt["action_version"]},
        "started_at": rfc3339(receipt["started_at"]),
    }


async def verify(workspace: Workspace, *, against: str | None, report: Report) -> CommandResult:
    """Check our chain; with `against`, the chains of these servers too, and each beside the other.

    A server whose chain is not sound has a TrustError (code audit) with all that is wrong. What is wrong with ours is
    in `data`, as `problems`, so that it hides no server's.
    """
    from ..trust import receipts
    from ..trust.serverchain import ServerChain

    keys = _identities(workspace.pins.values())
    problems = receipts.verify(workspace.chain, keys)
    data: dict[str, Any] = {"receipts": receipts.count(workspace.chain), "chain": "broken" if problems else "sound"}
    if problems:
        data["problems"] = problems
    if against is None:
        return CommandResult(workspace.label, data=data)
    names = workspace.select(against)
    async with workspace.caller() as caller:

        def ours() -> dict[str, Own]:
            return receipts.own(workspace.chain, {caller.acts_as})

        own = ours()
        heads = _Heads(workspace.state / "heads.json")

        async def work(link: Link) -> Reply:
            mine = own.get(link.server_id, own[""])
            chain = ServerChain(link.server_id, keys[link.server_id], mine, heads.of(link))
            chain = await _server_chain(caller, link, chain, report)
            now = ours() if chain.doubtful else own
            chain.end(now.get(link.server_id, now[""]))
            notes = tuple(_notes(chain))
            if chain.problems:
                error = TrustError(told("its chain is not sound", chain.problems), server=link.name, code="audit")
                error.reply = Reply("", "failed", notes=notes)
                raise error
            heads.keep(link, chain.head)
            told_of = {"entries": chain.entries, "ours": len(mine.held), "chain": "sound"}
            return Reply("", "done", data=told_of, notes=notes)

        servers = await workspace.on_all(names, work, report)
        return CommandResult(workspace.label, servers=servers, data=data)


def told(what: str, problems: Sequence[str]) -> str:
    """A message with a line for each problem."""
    rest = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "\n".join([f"{what}:", *problems[:_SHOWN], *rest]) if len(problems) > 1 else f"{what}: {problems[0]}"


def _identities(pins: Iterable[Pin]) -> dict[str, Sequence[bytes]]:
    """The keys of each server that was ever pinned, oldest first."""
    from ..trust.keys import parse_public

    return {pin.server_id: [parse_public(key) for key in pin.identities] for pin in pins if pin.server_id}


def _notes(chain: ServerChain) -> Iterator[str]:
    """What is no forgery: an interrupted connection leaves a receipt there that never came here."""
    fetched = [lost for lost in chain.lost if lost.outcome != "denied"]
    for lost in fetched[:_SHOWN]:
        yield f"the receipt of {lost.action} (entry {lost.seq}) never came here: sf op status {lost.op_id}"
    if len(fetched) > _SHOWN:
        yield f"nor did those of {len(fetched) - _SHOWN} more"
    for other in chain.elsewhere.values():
        yield (
            f"our key was used as {other.says[:64]!a}, which this machine never was: {_times(other.count)}, "
            f"at last {_at(other.finished_at)}: {other.action[:64]} (op {other.op_id[:26]}). "
            "Another machine of yours, or somebody who has the key"
        )
    if len(fetched) < len(chain.lost):
        seqs = [str(lost.seq) for lost in chain.lost if lost.outcome == "denied"]
        more = f" and {len(seqs) - _SHOWN} more" if len(seqs) > _SHOWN else ""
        yield f"denials of what was sent from here never came here: entries {', '.join(seqs[:_SHOWN])}{more}"
    if chain.dropped:
        yield f"it has dropped its entries up to {chain.dropped}, as its checkpoints say"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _at(moment: int) -> str:
    return rfc3339(moment) if 0 < moment <= _LATEST_MS else "at a time that is none"


async def _server_chain(caller: Caller, link: Link, empty: ServerChain, report: Report) -> ServerChain:
    """The whole chain, read into one that is like `empty`; its end is not judged yet."""
    version = registry.load("audit.read").version

    async def page_at(segment: int, offset: int) -> _Page:
        params = {"segment": segment, "offset": offset}
        request = Request("audit.read", params, read_only=True, timeout_s=60)
        answer = await caller.call(link, request, new_ulid(), version, report)
        return _page(answer.data, offset, link.name)

    async with caller.hold(link):
        # The server may drop its oldest segment while we read; hardly twice. What is gone for good is judged.
        for patient in (True, True, False):
            chain = empty.again()
            if await _read(chain, page_at, patient):
                break
    return chain


async def _read(chain: ServerChain, page_at: _PageAt, patient: bool) -> bool:
    """From the checkpoints to the newest receipt. False when a segment was dropped before we came to it and we are
    patient enough to begin again.

    Whatever the server says, it ends. Raises TrustError, Unreachable.
    """
    try:
        async with asyncio.timeout(_FIRST_S) as limit:
            return await _read_within(chain, page_at, patient, limit)
    except TimeoutError:
        raise Unreachable("its chain comes too slowly to be read") from None


async def _read_within(chain: ServerChain, page_at: _PageAt, patient: bool, limit: asyncio.Timeout) -> bool:
    async for page in _pages(page_at, 0, limit):
        for line in page.lines:
            chain.checkpoint(line)
        if chain.hopeless:
            return True
    chain.begin()
    segment, last = chain.first_segment, chain.closed_segments + 1
    while segment <= last:
        before = chain.entries
        async for page in _pages(page_at, segment, limit):
            if page.first > segment and patient:
                return False
            last = min(max(last, page.last), chain.closed_segments + _UNCHECKED)
            for line in page.lines:
                chain.add(line)
            if chain.hopeless:
                return True
        if chain.entries == before and segment > chain.closed_segments:
            break  # whatever it says of further ones
        segment += 1
    return True


async def _pages(page_at: _PageAt, segment: int, limit: asyncio.Timeout) -> AsyncIterator[_Page]:
    """Of one segment. Each gives the reading more time."""
    offset, more, size = 0, True, 0
    _extend(limit, _SEGMENT_S)
    while more:
        page = await page_at(segment, offset)
        came = sum(map(len, page.lines))
        size += came
        if size > _LONGEST_SEGMENT:
            raise TrustError(f"segment {segment} of its chain is longer than any server makes one", code="audit")
        _extend(limit, came / _SLOWEST)
        yield page
        offset, more = page.next, page.more


def _extend(limit: asyncio.Timeout, seconds: float) -> None:
    limit.reschedule((limit.when() or 0.0) + seconds)


@dataclass(frozen=True)
class _Page:
    """What `audit.read` answers (docs/protocol.md)."""

    lines: Sequence[str]
    next: int
    more: bool
    first: int
    last: int


_PageAt = Callable[[int, int], Awaitable[_Page]]


def _page(data: Mapping[str, Any], offset: int, server: str) -> _Page:
    """Raises TrustError for what makes no sense: a page has to bring us forward."""
    try:
        page = _Page(**data)
        numbers = (page.next, page.first, page.last)
        sane = isinstance(page.lines, list) and all(isinstance(line, str) for line in page.lines)
        sane = (
            sane
            and all(type(number) is int for number in numbers)
            and (not page.more or (page.next > offset and bool(page.lines)))
        )
    except TypeError:
        sane = False
    if not sane:
        raise TrustError("the server's answer cannot be read", server=server, code="bad-answer")
    return page


class _Heads:
    """How far each server's chain went, and its checkpoints, when it was last found sound: what was cut off since then
    is missed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, link: Link) -> Head | None:
        from ..trust.serverchain import Head

        try:
            found = self._read()[link.server_id]
            checkpoints = int(found.get("checkpoints", 0)), str(found.get("checkpoint", ""))
            return Head(int(found["seq"]), str(found["hash"]), *checkpoints)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def keep(self, link: Link, head: Head | None) -> None:
        from ..config.atomic import locked, write_atomic

        if head:
            with locked(self._path):
                heads = {**self._read(), link.server_id: asdict(head)}
                write_atomic(self._path, json.dumps(heads, indent=1).encode(), 0o600)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
