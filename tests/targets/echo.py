"""An app for the tests of routes, run on a server: `python3 echo.py PORT|SOCKET`. Standard library, Python >= 3.9.

It tells what it was asked, as JSON, and talks WebSocket (RFC 6455): what comes in a frame of text goes back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from typing import Any

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix" if isinstance(self.client_address, str) else str(self.client_address[0])

    def _answer(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            return self._talk()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told: dict[str, Any] = {"at": sys.argv[1], "method": self.command, "path": self.path, "length": len(body)}
        data = json.dumps({**told, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    do_GET = do_POST = do_HEAD = _answer

    def _talk(self) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode())
        self.end_headers()
        while len(head := self.rfile.read(2)) == 2 and head[0] & 15 == 1:
            mask = self.rfile.read(4)
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([0x81, len(text)]) + text)
        self.close_connection = True


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


class _Unix(_Tcp):
    address_family = socket.AF_UNIX


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        _Tcp(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
    else:
        os.umask(0)
        _Unix(sys.argv[1], _Handler).serve_forever()  # type: ignore[arg-type]  # AF_UNIX has a path
