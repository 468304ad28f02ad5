"""A server's own chain of receipts, read line by line and compared with what we were given (docs/protocol.md).

Each line of it is signed, numbered and holds the hash of the line before. What a server drops in time is told by a
second chain, of checkpoints. It holds the heads of our chain (`anchor`), as ours holds its receipts: whoever changes
one of the two is found by the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import TrustError
from . import sshsig

#: Closed segments that a server keeps; it may drop what is older, and nothing else (docs/protocol.md).
SEGMENTS_KEPT = 64
#: Sentences about one chain. Who needs more to see that it is not sound?
PROBLEMS_KEPT = 50
#: Names that are told of, under which our key was used elsewhere.
_NAMES_KEPT = 50

_CHECKPOINT = {
    "v": int, "typ": str, "server_id": str, "segment": int, "first_seq": int, "last_seq": int, "last_hash": str,
    "dropped": int, "at": int, "prev_checkpoint": str,
}  # fmt: skip
_RECEIPT = {"seq": int, "prev_receipt": str, "op_id": str, "action": str, "outcome": str, "anchor": str, "actor": dict}


@dataclass(frozen=True)
class Own:
    """What our chain has to say about a server's.

    `lines` are the hashes of all our lines; `selves` the pairs of key fingerprint and name that this machine acted as;
    `held` the receipts of that one server: sequence number → SHA-256 of their line in its chain.
    """

    lines: Collection[str]
    selves: Collection[tuple[str, str]]
    held: Mapping[int, str]


@dataclass(frozen=True)
class Head:
    """The newest entry that was seen: its sequence number and the hash of its line; and how many checkpoints there
    were, with the hash of the last one's line.
    """

    seq: int
    hash: str
    checkpoints: int = 0
    checkpoint: str = ""


@dataclass(frozen=True)
class Lost:
    """An entry for a command of ours whose receipt we do not hold."""

    seq: int
    op_id: str
    action: str
    outcome: str


@dataclass(frozen=True)
class Elsewhere:
    """What our key was used for under a name that this machine never had. The last of `count` entries is named."""

    says: str
    count: int
    op_id: str
    action: str
    finished_at: int


@dataclass(frozen=True)
class _Checkpoint:
    last: Head
    dropped: int


@dataclass
class ServerChain:
    """Give it the checkpoints, then the receipts, both oldest first, then `end`. `problems` says what is wrong.

    `keys` are the raw identity keys of the server, oldest first: once a newer one has signed, an older one may not.
    `seen` is the head at an earlier look.
    """

    server_id: str
    keys: Sequence[bytes]
    own: Own
    seen: Head | None = None
    problems: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    elsewhere: dict[str, Elsewhere] = field(default_factory=dict)
    entries: int = 0

    def __post_init__(self) -> None:
        self._checkpoints: list[_Checkpoint] = []
        self._previous_checkpoint = ""
        self._ends: dict[int, str] = {}
        self._seq = 0
        #: None after an entry that is wrong itself: the next one need not be blamed too.
        self._hash: str | None = ""
        self._rank = self._checkpoint_rank = 0
        self._found: set[int] = set()
        self._anchors: list[tuple[int, str]] = []
        self._own_keys = {key for key, _ in self.own.selves}

    def again(self) -> ServerChain:
        """The same before anything of it was read."""
        return ServerChain(self.server_id, self.keys, self.own, self.seen)

    @property
    def hopeless(self) -> bool:
        """So much is wrong that nobody needs to read on."""
        return len(self.problems) >= PROBLEMS_KEPT

    def _problem(self, what: str) -> None:
        if not self.hopeless:
            self.problems.append(what)

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def checkpoint(self, line: str) -> None:
        """The next line of the checkpoints."""
        number = len(self._checkpoints) + 1
        before = self._checkpoints[-1] if self._checkpoints else _Checkpoint(Head(0, ""), 0)
        after = before
        try:
            _, body, signer = _opened(line, sshsig.CHECKPOINT, _CHECKPOINT, exact=True)
            self._checkpoint_rank = self._newer(signer, self._checkpoint_rank, f"checkpoint {number}")
            right = (
                (body["typ"], body["server_id"], body["segment"]) == ("checkpoint", self.server_id, number)
                and body["prev_checkpoint"] == self._previous_checkpoint
                and body["first_seq"] == before.last.seq + 1 <= body["last_seq"]
                and before.dropped <= body["dropped"]
            )
            if not right:
                self._problem(f"checkpoint {number} does not follow the one before: they were changed")
            elif body["dropped"] > max(before.dropped, number - SEGMENTS_KEPT):
                self._problem(f"checkpoint {number} drops segments that have to be kept")
                right = False
            # What was not to be dropped is asked for all the same.
            after = _Checkpoint(Head(body["last_seq"], body["last_hash"]), body["dropped"] if right else before.dropped)
        except (ValueError, RecursionError):
            self._problem(f"checkpoint {number} is damaged")
        except TrustError as error:
            self._problem(f"checkpoint {number}: {error.message}")
        self._checkpoints.append(after)
        self._previous_checkpoint = _sha256(line)
        self._ends[after.last.seq] = after.last.hash
        if after is not before:
            self._compare_end(number, after.last)

    def _compare_end(self, number: int, last: Head) -> None:
        """Of a segment that was dropped nothing else is left to compare."""
        seen = self.seen
        if self.own.held.get(last.seq, last.hash) != last.hash:
            self._problem(f"checkpoint {number} ends with another entry {last.seq} than the receipt that we were given")
        if seen and (
            (seen.checkpoints == number and seen.checkpoint != self._previous_checkpoint)
            or (seen.seq == last.seq and seen.hash != last.hash)
        ):
            self._problem(f"checkpoint {number} is not what we saw there before")

    @property
    def first_segment(self) -> int:
        """The oldest segment that was not dropped, by the last checkpoint."""
        return self._checkpoints[-1].dropped + 1 if self._checkpoints else 1

    @property
    def closed_segments(self) -> int:
        """How many segments were closed, by the checkpoints."""
        return len(self._checkpoints)

    @property
    def dropped(self) -> int:
        """The sequence number of the last entry that the server has dropped, 0 when there is none."""
        gone = self.first_segment - 1
        return self._checkpoints[gone - 1].last.seq if 0 < gone <= len(self._checkpoints) else 0

    # --- receipts ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The checkpoints are complete: the first receipt follows the last that was dropped."""
        if self.seen and self.seen.checkpoints > len(self._checkpoints):
            self._problem(f"it has {len(self._checkpoints)} checkpoints; it had {self.seen.checkpoints} before")
        self._seq = self.dropped
        self._hash = self._ends.get(self._seq, "")

    def add(self, line: str) -> None:
        """The next line of the receipts."""
        self.entries += 1
        try:
            _, body, signer = _opened(line, sshsig.RECEIPT, _RECEIPT)
            said = (str(body["actor"]["key"]), str(body["actor"]["says"]))
        except (ValueError, LookupError, RecursionError):
            self._wrong(self._seq + 1, "is damaged")
            return
        except TrustError as error:
            self._wrong(self._seq + 1, f"is not what the server signed: {error.message}")
            return
        seq = body["seq"]
        if seq <= self._seq:
            self._problem(f"entry {seq} stands after entry {self._seq}: out of order, or twice")
            self._hash = None
            return
        self._rank = self._newer(signer, self._rank, f"entry {seq}")
        if seq > self._seq + 1:
            self._problem(f"{_entries(self._seq + 1, seq - 1)} missing: removed, or out of order")
        elif self._hash is not None and body["prev_receipt"] != self._hash:
            self._problem(f"entry {seq} does not follow entry {self._seq}: one of them was changed")
        self._seq, self._hash = seq, _sha256(line)
        self._compare(seq, body, said)

    def _compare(self, seq: int, body: Mapping[str, Any], said: tuple[str, str]) -> None:
        if self._ends.get(seq, self._hash) != self._hash:
            self._problem(f"entry {seq} is not the one that its checkpoint names")
        if self.seen and self.seen.seq == seq and self.seen.hash != self._hash:
            self._problem(f"entry {seq} is not the one that we saw there before")
        held = self.own.held.get(seq)
        if held is not None:
            self._found.add(seq)
            if held != self._hash:
                self._problem(f"entry {seq} is not the receipt that we were given")
        if said not in self.own.selves:
            if said[0] in self._own_keys:
                self._note_elsewhere(said[1], body)
            return
        if body["anchor"] and body["anchor"] not in self.own.lines:
            self._anchors.append((seq, body["anchor"]))
        if held is None and body["op_id"]:
            self.lost.append(Lost(seq, body["op_id"], body["action"], body["outcome"]))

    def _note_elsewhere(self, says: str, body: Mapping[str, Any]) -> None:
        known = self.elsewhere.get(says)
        if known or len(self.elsewhere) < _NAMES_KEPT:
            count, at = (known.count if known else 0) + 1, body.get("finished_at")
            at = at if type(at) is int else 0
            self.elsewhere[says] = Elsewhere(says, count, body["op_id"], body["action"], at)

    @property
    def doubtful(self) -> bool:
        """Whether it has entries of ours that our chain did not know: they may have come while it was read."""
        return bool(self.lost or self._anchors)

    def end(self, later: Own | None = None) -> None:
        """There are no more lines. `later` is our chain as it is now, which has grown if others worked here too."""
        now = later or self.own
        if self.hopeless:
            self.problems.append("it was read no further")
            return
        self.lost = [lost for lost in self.lost if lost.seq not in now.held]
        unanchored = [seq for seq, anchor in self._anchors if anchor not in now.lines]
        missing = sorted(seq for seq in self.own.held if seq > self.dropped and seq not in self._found)
        if missing:
            self._problem(f"receipts that we hold are not in its chain: {_some(missing)}")
        if self.seen and self._seq < self.seen.seq:
            self._problem(f"its chain ends with entry {self._seq}; it had {self.seen.seq} when we last looked")
        if unanchored:
            self._problem(
                f"our own chain is not the one that we had when we sent what its entries {_some(unanchored)} "
                "answer: lines were removed or changed here"
            )

    @property
    def head(self) -> Head | None:
        """The newest entry; None when there is none, or it is wrong."""
        if not (self._seq and self._hash):
            return None
        return Head(self._seq, self._hash, len(self._checkpoints), self._previous_checkpoint)

    def _wrong(self, seq: int, what: str) -> None:
        self._problem(f"entry {seq} {what}")
        self._seq, self._hash = seq, None

    def _newer(self, signer: bytes, rank: int, what: str) -> int:
        """The rank of the key that signed; at least as new as the last one's."""
        problem = wrong_key(signer, self.keys, rank)
        if problem:
            self._problem(f"{what} {problem}")
            return rank
        return self.keys.index(signer)


def wrong_key(signer: bytes, keys: Sequence[bytes], rank: int) -> str:
    """What is wrong with who signed, when the key of number `rank` has signed before; "" when nothing is."""
    if signer not in keys:
        return "was signed by another key than the server's"
    return "was signed by a key that had been replaced before" if keys.index(signer) < rank else ""


def line_of(body: str, sig: bytes) -> str:
    """The line of a receipt in its server's chain, without the newline."""
    return json.dumps({"body": body, "sig": base64.b64encode(sig).decode()}, separators=(",", ":"))


def _opened(
    line: str, namespace: str, fields: Mapping[str, type], *, exact: bool = False
) -> tuple[str, dict[str, Any], bytes]:
    """Body as text and read, and who signed it. Raises ValueError for what no server writes, and TrustError."""
    entry = json.loads(line)
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("body", "sig")):
        raise ValueError("no line of a chain")
    text, sig = entry["body"], base64.b64decode(entry["sig"], validate=True)
    body = json.loads(text)
    if line != line_of(text, sig) or not isinstance(body, dict) or (exact and set(body) != set(fields)):
        raise ValueError("no line of a chain")
    if not all(type(body.get(name)) is kind for name, kind in fields.items()):
        raise ValueError("fields of other types")
    return text, body, sshsig.verify(sig, namespace, text.encode())


def _sha256(text: str) -> str:
    """A server may say what is no Unicode text, in JSON's escapes; then it is nobody's hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _some(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return ", ".join(map(str, numbers[:10])) + more
