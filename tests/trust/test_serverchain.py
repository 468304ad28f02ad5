"""The two chains beside each other: whatever is done to one of them is found by the other, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverflow_cli.trust import receipts, serverchain, sshsig
from serverflow_cli.trust.keys import PrivateKey, new_private_key
from serverflow_cli.trust.serverchain import PROBLEMS_KEPT, SEGMENTS_KEPT, Elsewhere, Head, ServerChain, line_of

KEY, NEXT, THIEF = (new_private_key(name) for name in ("web1", "web1, later", "thief"))
SERVER = "5e" * 32
ME, BOB = ("SHA256:ana", "ana@laptop"), ("SHA256:bob", "bob@desk")
MY_OTHER_MACHINE = ("SHA256:ana", "ana@desktop")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class World:
    """One server and this machine. `there` are the lines of the server's chain, `path` is our chain."""

    path: Path
    there: list[str] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    keys: tuple[bytes, ...] = (KEY.public_key, NEXT.public_key)
    seen: Head | None = None
    last: dict[str, Any] = field(default_factory=lambda: {"segment": 0, "last_seq": 0})

    def command(self, who: tuple[str, str] = ME, *, arrives: bool = True, key: PrivateKey = KEY, **fields: Any) -> None:
        """Somebody has something done; the answer may not arrive."""
        mine = who == ME
        anchor = receipts.last_hash(self.path) if mine else ("cd" * 32 if who[0] else "")
        number = len(self.there) + 1
        body = json.dumps(
            {
                "typ": "receipt",
                "server_id": SERVER,
                "op_id": f"OP{number}",
                "action": "service.restart",
                "outcome": "done",
                "actor": {"name": "x", "key": who[0], "says": who[1]},
                "anchor": anchor,
                "seq": number,
                "prev_receipt": sha256(self.there[-1]) if self.there else "",
                **fields,
            }
        )
        sig = sshsig.sign(key, sshsig.RECEIPT, body.encode())
        self.there.append(line_of(body, sig))
        if mine and arrives:
            receipts.append(self.path, SERVER, body.encode(), sig, 1_000 + number)

    def checkpoint(self, dropped: int = 0, key: PrivateKey = KEY, **fields: Any) -> None:
        """All that is there now and in no segment yet becomes one."""
        right = {
            "v": 1, "typ": "checkpoint", "server_id": SERVER, "segment": self.last["segment"] + 1,
            "first_seq": self.last["last_seq"] + 1, "last_seq": len(self.there), "last_hash": sha256(self.there[-1]),
            "dropped": dropped, "at": 1, "prev_checkpoint": sha256(self.checkpoints[-1]) if self.checkpoints else "",
        }  # fmt: skip
        self.last = {**right, **fields}
        body = json.dumps(self.last)
        self.checkpoints.append(line_of(body, sshsig.sign(key, sshsig.CHECKPOINT, body.encode())))

    def audit(self, there: list[str] | None = None) -> ServerChain:
        """The server's chain, beside ours."""
        own = receipts.own(self.path, {ME})
        chain = ServerChain(SERVER, self.keys, own.get(SERVER, own[""]), self.seen)
        for line in self.checkpoints:
            chain.checkpoint(line)
        chain.begin()
        for line in self.there[chain.dropped :] if there is None else there:
            chain.add(line)
        chain.end()
        return chain

    def problems(self, there: list[str] | None = None) -> list[str]:
        return receipts.verify(self.path, {SERVER: self.keys}) + self.audit(there).problems


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Ours, bob's, ours …: seven entries, the odd ones ours; nothing is wrong."""
    found = World(tmp_path / "receipts.jsonl")
    for who in (ME, BOB, ME, BOB, ME, BOB, ME):
        found.command(who)
    return found


def test_nothing_is_wrong(world: World) -> None:
    assert world.problems() == []
    chain = world.audit()
    assert chain.lost == []
    assert chain.entries == 7
    assert chain.head == Head(7, sha256(world.there[-1]))
    assert chain.elsewhere == {}


def test_others_are_no_false_alarm(world: World) -> None:
    """Another operator, our key on another machine, a timer, a trust version: none is anchored in our chain."""
    for who in (BOB, MY_OTHER_MACHINE, ("", "")):
        world.command(who)
    world.command(("SHA256:root", ""), op_id="")
    world.command(ME)
    assert world.problems() == []
    assert world.audit().lost == []


def test_an_empty_chain() -> None:
    chain = ServerChain(SERVER, [KEY.public_key], serverchain.Own((), (), {}))
    chain.begin()
    chain.end()
    assert (chain.problems, chain.head, chain.dropped, chain.first_segment) == ([], None, 0, 1)


def altered(line: str) -> str:
    """Another text, the same signature."""
    return line.replace("service.restart", "service.stop")


def resigned(line: str) -> str:
    """As the server itself could write it anew."""
    body = json.loads(altered(line))["body"]
    return line_of(body, sshsig.sign(KEY, sshsig.RECEIPT, body.encode()))


THERE: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "altered": (lambda x: [*x[:1], altered(x[1]), *x[2:]], "entry 2 is not what the server signed"),
    "written anew": (lambda x: [*x[:1], resigned(x[1]), *x[2:]], "entry 3 does not follow entry 2"),
    "ours written anew": (lambda x: [*x[:2], resigned(x[2]), *x[3:]], "entry 3 is not the receipt that we were given"),
    "the last written anew": (lambda x: [*x[:6], resigned(x[6])], "entry 7 is not the receipt that we were given"),
    "removed": (lambda x: [*x[:1], *x[2:]], "entry 2 is missing"),
    "two removed": (lambda x: [*x[:1], *x[3:]], "entries 2 to 3 are missing"),
    "ours removed": (lambda x: [*x[:2], *x[3:]], "receipts that we hold are not in its chain: 3"),
    "the first removed": (lambda x: x[1:], "entry 1 is missing"),
    "swapped": (lambda x: [x[0], x[2], x[1], *x[3:]], "entry 2 stands after entry 3"),
    "twice": (lambda x: [*x[:2], x[1], *x[2:]], "entry 2 stands after entry 2"),
    "truncated": (lambda x: x[:6], "receipts that we hold are not in its chain: 7"),
    "emptied": (lambda x: [], "receipts that we hold are not in its chain: 1, 3, 5, 7"),
    "garbage": (lambda x: [*x[:1], "{}", *x[2:]], "entry 2 is damaged"),
    "no JSON": (lambda x: [*x[:1], "", *x[2:]], "entry 2 is damaged"),
    "too deep": (lambda x: [*x[:1], "[" * 100_000, *x[2:]], "entry 2 is damaged"),
    "other spaces": (lambda x: [*x[:1], x[1].replace('","', '", "'), *x[2:]], "entry 2 is damaged"),
}


@pytest.mark.parametrize("how", THERE)
def test_what_is_done_to_the_servers_chain(world: World, how: str) -> None:
    change, told = THERE[how]
    problems = world.problems(change(world.there))
    assert any(problem.startswith(told) for problem in problems), problems


def test_one_fault_is_told_once(world: World) -> None:
    assert len(world.problems(THERE["removed"][0](world.there))) == 1
    assert len(world.problems(THERE["altered"][0](world.there))) == 1
    assert len(world.problems(THERE["swapped"][0](world.there))) == 2


def test_all_faults_are_told(world: World) -> None:
    there = [world.there[0], altered(world.there[1]), *world.there[3:5], world.there[6]]
    assert [problem[:7] for problem in world.problems(there)] == ["entry 2", "entry 3", "entry 6", "receipt"]


def test_what_was_cut_off_since_we_last_looked(world: World) -> None:
    for _ in range(3):
        world.command(BOB)
    whole = world.audit()
    assert world.problems(world.there[:8]) == []
    world.seen = whole.head
    assert world.problems() == []
    assert world.problems(world.there[:8]) == ["its chain ends with entry 8; it had 10 when we last looked"]
    assert world.problems([*world.there[:9], resigned(world.there[9])]) == [
        "entry 10 is not the one that we saw there before"
    ]


# --- our own chain ---------------------------------------------------------------------------------------------------


def rebuilt(lines: list[bytes]) -> list[bytes]:
    """As somebody would who knows how the chain is made."""
    out: list[bytes] = []
    for line in lines:
        prev = hashlib.sha256(out[-1]).hexdigest() if out else ""
        out.append(json.dumps({**json.loads(line), "prev": prev}, ensure_ascii=False).encode())
    return out


HERE: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "removed": lambda x: [*x[:1], *x[2:]],
    "the first removed": lambda x: x[1:],
    "swapped": lambda x: [x[0], x[2], x[1], *x[3:]],
    "the last swapped": lambda x: [*x[:2], x[3], x[2]],
    "twice": lambda x: [*x[:2], *x[1:]],
    "truncated": lambda x: x[:2],
    "emptied": lambda x: [],
}


@pytest.mark.parametrize("how", HERE)
@pytest.mark.parametrize("then", [list, rebuilt])
def test_what_is_done_to_our_chain(world: World, how: str, then: Callable[[list[bytes]], list[bytes]]) -> None:
    """Also when all the hashes after it were made anew: the server has the old ones."""
    lines = world.path.read_bytes().splitlines()
    changed = then(HERE[how](lines))
    world.path.write_bytes(b"".join(line + b"\n" for line in changed))
    assert world.problems()


def test_a_truncation_is_found_by_the_anchors(world: World) -> None:
    lines = world.path.read_bytes().splitlines(keepends=True)
    world.path.write_bytes(b"".join(lines[:2]))
    assert receipts.verify(world.path, {SERVER: world.keys}) == []
    assert [
        problem
        for problem in world.audit().problems
        if "entries 7 " in problem and "removed or changed here" in problem
    ]


def test_a_receipt_that_never_came_is_no_forgery(world: World) -> None:
    world.command(ME, arrives=False)
    assert world.problems() == []
    (lost,) = world.audit().lost
    assert (lost.seq, lost.op_id, lost.action, lost.outcome) == (8, "OP8", "service.restart", "done")
    world.command(ME)  # its anchor is the line before the one that never came
    assert world.problems() == []


def test_what_we_do_while_it_is_read_is_no_false_alarm(world: World) -> None:
    """Our chain was read before; commands of ours ran, each anchored in the answer to the one before."""
    before = receipts.own(world.path, {ME})[SERVER]
    for _ in range(3):
        world.command(ME)
    chain = ServerChain(SERVER, world.keys, before)
    chain.begin()
    for line in world.there:
        chain.add(line)
    assert chain.doubtful
    chain.end(receipts.own(world.path, {ME})[SERVER])
    assert (chain.problems, chain.lost) == ([], [])


def test_our_key_under_a_name_that_we_never_had(world: World) -> None:
    """Another machine of ours, or whoever stole the key: told, and no fault of the server's."""
    for who in (MY_OTHER_MACHINE, (ME[0], ""), MY_OTHER_MACHINE, BOB):
        world.command(who, finished_at=1_700_000_000_000 + len(world.there))
    chain = world.audit()
    assert chain.problems == []
    assert chain.elsewhere == {
        "ana@desktop": Elsewhere("ana@desktop", 2, "OP10", "service.restart", 1_700_000_000_009),
        "": Elsewhere("", 1, "OP9", "service.restart", 1_700_000_000_008),
    }


def test_a_reply_in_our_chain_is_named_and_breaks_nothing_else(world: World) -> None:
    """As an `sf` left it that kept the answer to a trust version which was there already."""
    for _ in range(2):
        body = json.dumps({"typ": "reply", "server_id": SERVER, "seq": 0, "prev_receipt": "", "n": len(world.there)})
        receipts.append(world.path, SERVER, body.encode(), sshsig.sign(KEY, sshsig.RECEIPT, body.encode()), 1)
        world.command(ME)
    assert world.problems() == [
        f"line {line}: it is a reply and no receipt, which has no place in a chain" for line in (5, 7)
    ]
    assert set(receipts.own(world.path, {ME})[SERVER].held) == {1, 3, 5, 7, 8, 9}


def test_not_more_is_kept_than_anybody_reads(world: World) -> None:
    chain = world.audit(["x"] * 10_000)
    assert chain.hopeless
    assert len(chain.problems) == PROBLEMS_KEPT + 1
    assert chain.problems[-1] == "it was read no further"


@pytest.mark.parametrize("line", ["\ud800", '{"body":"\\ud800","sig":""}', '{"body":"{}","sig":"\ud800"}'])
def test_what_is_no_unicode_text(world: World, line: str) -> None:
    world.checkpoints.append(line)
    problems = world.problems([*world.there, line])
    assert problems == ["checkpoint 1 is damaged", "entry 8 is damaged"]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_an_older_key_signs_nothing_newer(world: World) -> None:
    world.command(BOB, key=NEXT)
    world.command(BOB, key=NEXT)
    assert world.problems() == []
    world.command(BOB, key=KEY)
    assert world.problems() == ["entry 10 was signed by a key that had been replaced before"]


def test_another_key(world: World) -> None:
    world.command(BOB, key=THIEF)
    world.command(ME)
    assert world.problems() == ["entry 8 was signed by another key than the server's"]


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture
def long(world: World) -> World:
    """As many segments as a server keeps and one more, the first of which, of seven entries, was dropped; and three
    entries in the open one.
    """
    world.checkpoint()
    for number in range(1, SEGMENTS_KEPT + 1):
        world.command(ME if number % 2 else BOB)
        world.checkpoint(dropped=int(number == SEGMENTS_KEPT))
    for who in (ME, BOB, ME):
        world.command(who)
    return world


def test_what_was_dropped_in_time(long: World) -> None:
    assert long.problems() == []
    chain = long.audit()
    assert (chain.dropped, chain.first_segment, chain.closed_segments, chain.entries) == (7, 2, 65, 67)


def test_more_is_gone_than_was_dropped(long: World) -> None:
    assert long.problems(long.there[8:])[0] == "entry 8 is missing: removed, or out of order"
    assert long.problems([resigned(long.there[7]), *long.there[8:]])


def test_nothing_is_dropped_before_its_time(world: World) -> None:
    """Whoever has the identity key closes two tiny segments and calls the first one dropped."""
    world.command(BOB)
    world.checkpoint()
    world.command(BOB)
    world.checkpoint(dropped=1)
    assert world.problems([world.there[8]])[0] == "checkpoint 2 drops segments that have to be kept"
    assert any("receipts that we hold" in problem for problem in world.problems([world.there[8]]))


def test_what_was_dropped_was_what_we_were_given(long: World) -> None:
    """Of a segment that is gone its checkpoint names the last entry, whose receipt we hold."""
    assert long.problems() == []
    long.checkpoints.clear()
    long.last = {"segment": 0, "last_seq": 0}
    long.checkpoint(last_seq=7, last_hash="00" * 32)
    for number in range(1, SEGMENTS_KEPT + 1):
        last: dict[str, Any] = {"last_seq": 7 + number, "last_hash": sha256(long.there[6 + number])}
        long.checkpoint(dropped=int(number == SEGMENTS_KEPT), **last)
    assert "checkpoint 1 ends with another entry 7 than the receipt that we were given" in long.problems()


def test_checkpoints_that_we_saw_before(long: World) -> None:
    long.seen = long.audit().head
    assert long.seen and (long.seen.checkpoints, long.seen.checkpoint) == (65, sha256(long.checkpoints[-1]))
    assert long.problems() == []
    long.command(BOB)
    long.checkpoint(dropped=2)
    assert long.problems(long.there[8:]) == []
    before = long.checkpoints[-2]
    del long.checkpoints[-2:]
    assert "it has 64 checkpoints; it had 65 before" in long.problems()
    at_another_time = json.loads(json.loads(before)["body"]) | {"at": 2}
    body = json.dumps(at_another_time)
    long.checkpoints.append(line_of(body, sshsig.sign(KEY, sshsig.CHECKPOINT, body.encode())))
    assert long.problems(long.there[7:]) == ["checkpoint 65 is not what we saw there before"]


@pytest.mark.parametrize("dropped", [-(10**17), 10**17])
def test_no_segment_is_asked_for_that_cannot_be(world: World, dropped: int) -> None:
    world.checkpoint(dropped=dropped)
    chain = world.audit()
    assert chain.problems
    assert (chain.first_segment, chain.dropped) == (1, 0)


def test_a_segment_that_the_server_wrote_anew(world: World) -> None:
    """Entries of others, the last of their segment, with a right hash after it: the checkpoint says otherwise."""
    world.command(BOB)
    world.checkpoint()
    world.there[7] = resigned(world.there[7])
    assert world.problems() == ["entry 8 is not the one that its checkpoint names"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[1:],
        lambda x: [x[0], *x[2:]],
        lambda x: [x[1], x[0], *x[2:]],
        lambda x: [x[0], x[0], *x[1:]],
        lambda x: [*x[:-1], x[-1].replace('dropped\\": 1', 'dropped\\": 2')],
        lambda x: [*x[:-1], "{}"],
        lambda x: x[:-1],
        lambda x: [],
    ],
)
def test_what_is_done_to_the_checkpoints(long: World, change: Callable[[list[str]], list[str]]) -> None:
    served = long.there[7:]
    long.checkpoints = change(long.checkpoints)
    assert long.problems(served)


@pytest.mark.parametrize(
    "fields",
    [
        {"first_seq": 9},
        {"last_seq": 7},
        {"segment": 3},
        {"dropped": 2},
        {"dropped": -1},
        {"server_id": "ab" * 32},
        {"prev_checkpoint": ""},
        {"more": 1},
        {"last_seq": "8"},
        {"typ": "receipt"},
    ],
    ids=repr,
)
def test_checkpoints_that_make_no_sense(world: World, fields: dict[str, Any]) -> None:
    world.checkpoint()
    world.command(BOB)
    world.checkpoint(**fields)
    assert world.problems()


def test_checkpoints_by_other_keys(world: World) -> None:
    world.checkpoint(key=THIEF)
    assert world.problems() == ["checkpoint 1 was signed by another key than the server's"]
    world.checkpoints.clear()
    world.last = {"segment": 0, "last_seq": 0}
    world.checkpoint(key=NEXT)
    world.command(BOB)
    world.checkpoint(key=KEY)
    assert world.problems() == ["checkpoint 2 was signed by a key that had been replaced before"]


# --- whatever else ---------------------------------------------------------------------------------------------------


def _one(draw: st.DrawFn, lines: list[str]) -> list[str]:
    """One line removed, moved, doubled, changed in one character; or all from one on cut off."""
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(["remove", "move", "double", "change", "cut"]))
    rest = [*lines[:at], *lines[at + 1 :]]
    if how == "remove":
        return rest
    if how == "cut":
        return lines[:at]
    to = draw(st.integers(0, len(rest)))
    if how == "move":
        return [*rest[:to], lines[at], *rest[to:]]
    if how == "double":
        return [*lines[:to], lines[at], *lines[to:]]
    place, char = draw(st.integers(0, len(lines[at]) - 1)), draw(st.sampled_from('0aZ"{}, :\\'))
    return [*lines[:at], lines[at][:place] + char + lines[at][place + 1 :], *lines[at + 1 :]]


def _worlds() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "receipts.jsonl"


def _all_but_time(lines: list[str]) -> list[Any]:
    """What nothing vouches for: when our newest line was stored."""
    try:
        *before, last = lines
        return [*before, {name: value for name, value in json.loads(last).items() if name != "at"}]
    except (ValueError, AttributeError):
        return list(lines)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_single_change_is_found(data: st.DataObject) -> None:
    """Of either chain; a receipt that is gone at the end of ours may be told as one that never came."""
    whose = data.draw(st.lists(st.sampled_from([ME, BOB, MY_OTHER_MACHINE]), max_size=6))
    for path in _worlds():
        world = World(path)
        for who in [*whose, ME]:
            world.command(who)
        before = path.read_text().splitlines()
        assert world.problems() == [] == world.audit().lost
        if data.draw(st.booleans()):
            after = data.draw(st.composite(_one)(world.there))
            if after != world.there:
                assert world.problems(after), after
        else:
            after = data.draw(st.composite(_one)(before))
            if _all_but_time(after) != _all_but_time(before):
                path.write_text("".join(line + "\n" for line in after))
                assert world.problems() or world.audit().lost, after
