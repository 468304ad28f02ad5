"""What answers, or does not, on a port of this machine: each for the length of a `with`, each gives its port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else takes it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """Accepts (the kernel does) and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextlib.contextmanager
def chatter(said: bytes) -> Iterator[int]:
    """Says the same to everybody and hangs up."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(said)
            connection.recv(1000)

    with _served(("127.0.0.1", 0), socket.AF_INET, answer) as port:
        yield port


@contextlib.contextmanager
def relay(to: tuple[str, int], host: str = "127.0.0.1") -> Iterator[int]:
    """Passes connections on, from an IPv4 or IPv6 address of this machine."""

    def pass_on(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), socket.create_connection(to) as other:
            back = threading.Thread(target=_pump, args=(other, connection), daemon=True)
            back.start()
            _pump(connection, other)
            back.join()

    with _served((host, 0), socket.AF_INET6 if ":" in host else socket.AF_INET, pass_on) as port:
        yield port


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _served(address: tuple[str, int], family: socket.AddressFamily, answer: object) -> Iterator[int]:
    with socket.create_server(address, family=family) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()  # type: ignore[arg-type]

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
