"""Cloudflare's API as far as `sf` uses it, over HTTP and with its faults.

Each request and each answer is checked against cloudflare_api.json. What breaks it is kept in `complaints`.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema

from .cloudflare_zone import FakeZone, Refused

API = json.loads((Path(__file__).parent / "cloudflare_api.json").read_text())
ALL = frozenset({"zone:read", "zone:edit", "dns:read", "dns:edit", "account:read"})


@dataclass
class Fault:
    """What happens instead of an answer, `times` times, to calls whose method and path match `to`. `done`: the work is
    done before it. `wait` is for a thing that happens: nobody sleeps.
    """

    to: str
    status: int = 200
    body: str | dict[str, Any] = ""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    done: bool = False
    wait: threading.Event | None = None


class FakeCloudflare:
    """A server on a loopback port, as a context manager."""

    def __init__(self) -> None:
        self.token = "sf-test-token-" + uuid.uuid4().hex
        self.scopes: frozenset[str] = ALL
        self.token_status = "active"
        self.owned_by_account = False
        self.accounts = [{"id": uuid.uuid4().hex, "name": "Acme", "type": "standard"}]
        self.zones: list[FakeZone] = []
        self.faults: list[Fault] = []
        #: Called with method and path before a call is answered: for what somebody else does at that moment.
        self.meanwhile: Callable[[str], None] = lambda call: None
        self.calls: list[str] = []
        self.complaints: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> FakeCloudflare:
        fake = self

        class Handler(_Handler):
            server_side = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/client/v4"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for fault in self.faults:
            if fault.wait:
                fault.wait.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def zone(self, name: str, **more: str) -> FakeZone:
        """One more zone in the first account."""
        zone = FakeZone(name, {k: self.accounts[0][k] for k in ("id", "name")}, **more)
        self.zones.append(zone)
        return zone

    def answer(
        self, method: str, target: str, raw: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one call."""
        split = urlsplit(target)
        path = split.path.removeprefix("/client/v4")
        call = f"{method} {path}"
        self.calls.append(call)
        self.headers.append(headers)
        self.meanwhile(call)
        fault = self._fault(call)
        if fault and not fault.done:
            return _as_said(fault)
        with self._lock:
            status, body = self._do(method, path, dict(parse_qsl(split.query)), raw, headers)
        if fault:
            return _as_said(fault)
        return status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def _fault(self, call: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.to, call):
                fault.times -= 1
                return fault
        return None

    def _do(
        self, method: str, path: str, query: dict[str, str], raw: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        operation = f"{method} {re.sub('/zones/[^/]+', '/zones/{id}', path)}"
        schema = API["operations"].get(operation)
        if schema is None:
            return self._failure(404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?")
        if headers.get("authorization") != f"Bearer {self.token}":
            return self._failure(401, 1000, "Invalid API Token")
        body = json.loads(raw) if raw else {}
        for part, document in (("query", query), ("request", body)):
            if part in schema and not self._fits(operation, part, document):
                return self._failure(400, 1004, f"The {part} does not fit the schema: {self.complaints[-1]}")
        try:
            result, info = self._carry_out(operation, path, query, body)
        except Refused as refused:
            status = {10000: 403, 7003: 404, 1000: 401}.get(refused.code, 400)
            return self._failure(status, refused.code, refused.message, refused.pointer)
        answer = {"success": True, "errors": [], "messages": [], "result": result, **info}
        self._fits(operation, "response", answer)
        return 200, answer

    def _failure(self, status: int, code: int, message: str, pointer: str = "") -> tuple[int, dict[str, Any]]:
        error: dict[str, Any] = {"code": code, "message": message}
        if pointer:
            error["source"] = {"pointer": pointer}
        answer = {"success": False, "errors": [error], "messages": [], "result": None}
        jsonschema.validate(answer, {**API["$defs"]["failure"], "$defs": API["$defs"]})
        return status, answer

    def _fits(self, operation: str, part: str, document: object) -> bool:
        schema = {**API["operations"][operation][part], "$defs": API["$defs"]}
        checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        errors = [f"{operation} {part}: {error.json_path}: {error.message}" for error in checker.iter_errors(document)]
        self.complaints += errors
        return not errors

    def _carry_out(
        self, operation: str, path: str, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        if operation == "GET /user/tokens/verify":
            if self.owned_by_account:
                raise Refused(1000, "Invalid API Token")
            return {"id": uuid.uuid4().hex, "status": self.token_status}, {}
        if operation == "GET /accounts":
            return _page(self.accounts if "account:read" in self.scopes else [], query, 50)
        if operation == "GET /zones":
            return self._list_zones(query)
        if operation == "POST /zones":
            return self._add_zone(body)
        zone = next((zone for zone in self.zones if zone.id == path.split("/")[2]), None)
        if zone is None:
            raise Refused(7003, f"Could not route to {path}, perhaps your object identifier is invalid?")
        if operation == "DELETE /zones/{id}":
            self._need("zone:edit")
            self.zones.remove(zone)
            return {"id": zone.id}, {}
        if operation == "GET /zones/{id}/dns_records":
            self._need("dns:read")
            return _page(list(zone.records.values()), query, 5_000_000)
        if operation == "GET /zones/{id}/dnssec":
            self._need("dns:read")
            return zone.dnssec, {}
        self._need("dns:edit")
        if sum(len(items) for items in body.values()) > (200 if zone.plan == "free" else 3500):
            raise Refused(9500, "Too many operations in one batch.")
        return zone.batch(body), {}

    def _list_zones(self, query: dict[str, str]) -> tuple[Any, dict[str, Any]]:
        seen = self.zones if "zone:read" in self.scopes else []
        if "name" in query:
            seen = [zone for zone in seen if zone.name == query["name"]]
        if "account.id" in query:
            seen = [zone for zone in seen if zone.account["id"] == query["account.id"]]
        return _page([zone.shown() for zone in seen], query, 50)

    def _add_zone(self, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._need("zone:edit")
        account = next((a for a in self.accounts if a["id"] == body["account"]["id"]), None)
        if account is None:
            raise Refused(1068, "Permission denied")
        if any(zone.name == body["name"] and zone.account["id"] == account["id"] for zone in self.zones):
            raise Refused(1061, f"{body['name']} already exists")
        self.zones.append(FakeZone(body["name"], {k: account[k] for k in ("id", "name")}, status="pending"))
        return self.zones[-1].shown(), {}

    def _need(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Refused(10000, "Authentication error")


class _Handler(BaseHTTPRequestHandler):
    server_side: FakeCloudflare
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet; two would wait for each other (Nagle)

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        status, more, body = self.server_side.answer(self.command, self.path, raw, headers)
        try:
            self.send_response(status)
            for key, value in {**more, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client did not wait

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Not on the screen."""


def _as_said(fault: Fault) -> tuple[int, dict[str, str], bytes]:
    if fault.wait:
        fault.wait.wait(30)
    if isinstance(fault.body, dict):
        return fault.status, {"Content-Type": "application/json", **fault.headers}, json.dumps(fault.body).encode()
    return fault.status, {"Content-Type": "text/html", **fault.headers}, fault.body.encode()


def _page(rows: list[Any], query: dict[str, str], most: int) -> tuple[list[Any], dict[str, Any]]:
    page, size = int(query.get("page", 1)), int(query.get("per_page", 20))
    if not 1 <= size <= most:
        raise Refused(1004, f"per_page must be within 1 and {most}")
    shown = rows[(page - 1) * size : page * size]
    total = -(-len(rows) // size)
    info = {"count": len(shown), "page": page, "per_page": size, "total_count": len(rows), "total_pages": total}
    return shown, {"result_info": info}
