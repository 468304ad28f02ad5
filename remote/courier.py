"""Carry one alert out of the server, in a process without rights: nobody's user, no capability, no file to write.

What sends has the settings of its one channel, by a descriptor that was opened for it; no process that it was forked
from has read any. So a reply that breaks into it finds no other secret, and no arguments or environment ever hold one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import channels
import confine
import layout
import mailer
import posts
import store
import strict
import wording
from said import FAILED, UNANSWERED, UNREACHABLE, VERDICTS, Said, why

#: For all of one attempt. Each wait for the other side is shorter, but for the one after a mail.
SECONDS = 45
#: From the end of a mail on, with the goodbye.
SECONDS_AT_THE_END = mailer.SECONDS_AT_THE_END + 10
#: Before the answer of a child that has handed a mail over: from then on no answer is not "not sent".
_HANDED_OVER = b"\n"
#: Of addresses: malloc(3) sets some aside.
_MEMORY = 512 << 20

#: Of what the child says. It has met a stranger, and may be one.
_SAID_LIMIT = 64 << 10
_WORDS_LIMIT = 1000
_LONGEST_WAIT = 3600

#: Sends an event by the channel of this name; to these recipients alone, where it has some and any are given.
Carry = Callable[[str, Mapping[str, Any], Sequence[str]], Said]


def carry(name: str, event: Mapping[str, Any], left: Sequence[str] = ()) -> Said:
    """Send an event by a channel, now. Never raises: what went wrong is said."""
    return _carried(name, event, left, SECONDS_AT_THE_END)


def carry_soon(name: str, event: Mapping[str, Any], left: Sequence[str] = ()) -> Said:
    """The same for somebody who waits for the outcome: after SECONDS that is that there was no answer."""
    return _carried(name, event, left, 0)


def _carried(name: str, event: Mapping[str, Any], left: Sequence[str], at_the_end: float) -> Said:
    try:
        source, sink = os.pipe()
        child = os.fork()
    except OSError as error:
        return Said(FAILED, f"no process for it: {error.strerror}")
    if child == 0:
        os.close(source)
        _confined(name, event, left, sink)
    os.close(sink)
    try:
        return _heard(source, at_the_end)
    finally:
        os.close(source)
        # Process 1 of the child's pid namespace dies with it.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _heard(source: int, at_the_end: float = SECONDS_AT_THE_END) -> Said:
    deadline = time.monotonic() + SECONDS
    data = bytearray()
    watch = select.poll()
    watch.register(source, select.POLLIN)
    while len(data) <= _SAID_LIMIT:
        if not watch.poll(max(0, deadline - time.monotonic()) * 1000):
            return _unanswered() if data else Said(UNREACHABLE, f"no answer within {SECONDS} s")
        part = os.read(source, _SAID_LIMIT)
        if not part:
            break
        if not data and part.startswith(_HANDED_OVER):  # once: it is as far as a stranger can extend it
            deadline = max(deadline, time.monotonic() + at_the_end)
        data += part
    return heard(bytes(data))


def heard(data: bytes) -> Said:
    """What the child said, if it is an answer at all. Pure."""
    is_handed_over = data.startswith(_HANDED_OVER)
    data = data[len(_HANDED_OVER) :] if is_handed_over else data
    if not data:
        return _unanswered() if is_handed_over else Said(FAILED, "the sending process broke off")
    try:
        answer = strict.parse_json(data, _SAID_LIMIT)
        verdict, words, wait, left = strict.fields(answer, "verdict words wait left", "the answer")
        if verdict not in VERDICTS:
            raise strict.Malformed("no such verdict")
        line = wording.line(strict.any_text(words, "words"), _WORDS_LIMIT)
        seconds = strict.integer(wait, "wait", 0, _LONGEST_WAIT)
        recipients = [channels.MAILBOX(each, "left") for each in strict.items(left, "left")[: channels.RECIPIENTS]]
    except strict.Malformed:
        return _unanswered() if is_handed_over else Said(FAILED, "the sending process talks nonsense")
    return Said(verdict, line, seconds, tuple(recipients))


def _unanswered() -> Said:
    return Said(UNANSWERED, mailer.UNANSWERED_WORDS)


def settings_of(name: str) -> int:
    """The channel's file, opened. Raises OSError."""
    return os.open(f"{layout.NOTIFY}/{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def deliver(
    settings: int,
    name: str,
    event: Mapping[str, Any],
    now: int,
    left: Sequence[str] = (),
    handed_over: Callable[[], None] = lambda: None,
) -> Said:
    """The sending itself. `settings` is read to its end, and closed; `handed_over` is mailer.send's."""
    try:
        with open(settings, "rb") as file:
            channel = channels.parse(file.read(channels.LIMIT + 1), name)
        told = {**event, "server": channel.server}
        if channel.provider == "smtp":
            return mailer.send(channel, told, left, handed_over)
        return posts.send(channel, told, now)
    except strict.Malformed as error:
        return Said(UNREACHABLE, f"its settings are damaged: {error}")
    except Exception as error:
        return why(error)


def _confined(name: str, event: Mapping[str, Any], left: Sequence[str], sink: int) -> None:
    """The child. Never returns: whatever happens it leaves by _exit, so that no code of the caller's runs twice."""

    def say(said: Said) -> None:
        with contextlib.suppress(BrokenPipeError), open(sink, "wb", closefd=False) as file:
            file.write(store.encode(said._asdict()))

    def handed_over() -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(sink, _HANDED_OVER)

    try:
        confine.undumpable()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            settings = settings_of(name)
            confine.enter(layout.READ_USER, False, False, _MEMORY, SECONDS, network=True)
        except OSError as error:
            say(Said(UNREACHABLE, f"its settings cannot be read: {error.strerror}"))
            os._exit(0)
        except confine.CannotConfine as error:
            say(Said(FAILED, str(error)))
            os._exit(0)
        if os.fork() == 0:
            confine.die_with_parent()
            say(deliver(settings, name, event, int(time.time()), left, handed_over))
            os._exit(0)
        os.close(sink)
        os.wait()
    finally:
        os._exit(1)
