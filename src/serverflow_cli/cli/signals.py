"""SIGTERM and SIGHUP end a command as Ctrl-C does: whoever sent them hears what goes on, and fleet.toml is in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def like_ctrl_c(heard: Callable[[int], None]) -> Iterator[None]:
    """While flows run; before them a signal may end the process, since nothing has begun. `heard` gets its number. What
    is ignored, as under nohup(1), stays ignored.
    """
    import signal
    import threading

    def end(number: int, frame: FrameType | None) -> None:
        heard(number)
        # asyncio's, which cancels what runs, or that of a question, which ends the wait for an answer.
        ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(ctrl_c):  # ignored, as in the background of a script
            raise KeyboardInterrupt
        ctrl_c(number, frame)

    here = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers if here else ():
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers if here else ():
            signal.signal(number, signal.SIG_DFL)
