"""Put one TXT record into a zone, or take it out: by a dynamic update (RFC 2136) or by Cloudflare's API. Others of its
name stay: a name and its wildcard have their challenges at the same place.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from serverflow_actions.kit.certificate import Credential, Wish, split_place

#: Of a record that lives for minutes.
TTL_S = 60
CLOUDFLARE = "https://api.cloudflare.com/client/v4"
_TIMEOUT_S = 20
_ANSWER_LIMIT = 1 << 20
#: How often Cloudflare may say that it is busy, and for how long we then wait at most.
_TRIES, _LONGEST_WAIT_S = 4, 30
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?\Z")
_VALUE = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")


class Failed(Exception):
    """A sentence: why DNS could not be changed, or does not say what it should. It shows no secret."""


def change(wish: Wish, credential: Credential, do: str, name: str, value: str) -> None:
    """`do` is add or delete; both may be repeated. Raises Failed."""
    if not _NAME.match(name) or not _VALUE.match(value) or do not in ("add", "delete"):
        raise Failed(f"{name[:100]!a} cannot be put into DNS")
    if wish.method == "tsig":
        _update(wish, credential, do, name, value)
    elif do == "add":
        _cloudflare_add(wish, credential.secret, name, value)
    else:
        _cloudflare_delete(wish, credential.secret, name, value)


# --- dynamic updates, RFC 2136 and RFC 8945 --------------------------------------------------------------------------


def script(wish: Wish, credential: Credential, server: str, do: str, name: str, value: str) -> str:
    """What nsupdate(1) reads. The key goes in here, not into an argument or a file."""
    host, port = split_place(server)
    update = f"add {name}. {TTL_S} TXT" if do == "add" else f"delete {name}. TXT"
    return (
        f"server {host} {port}\nzone {wish.zone}.\nkey {wish.algorithm}:{wish.key} {credential.secret}\n"
        f'update {update} "{value}"\nsend\nquit\n'
    )


def _update(wish: Wish, credential: Credential, do: str, name: str, value: str) -> None:
    """At the first primary that takes it."""
    problems = []
    for server in wish.servers:
        try:
            done = subprocess.run(
                ["nsupdate", "-v", "-t", str(_TIMEOUT_S)],
                input=script(wish, credential, server, do, name, value).encode(),
                capture_output=True, check=False, timeout=_TIMEOUT_S * 2,
            )  # fmt: skip
        except FileNotFoundError:
            raise Failed("nsupdate is missing (package bind9-dnsutils)") from None
        except (OSError, subprocess.TimeoutExpired):
            problems.append(f"{server} does not answer")
            continue
        if done.returncode == 0:
            return
        said = done.stderr.decode("utf-8", "replace").replace(credential.secret, "…").strip().splitlines()
        problems.append(f"{server}: {' '.join(said[-2:])[:200] or 'it refuses'}")
    raise Failed(f"the update of {wish.zone} was not taken: {'; '.join(problems)}")


# --- Cloudflare ------------------------------------------------------------------------------------------------------


def _cloudflare_add(wish: Wish, token: str, name: str, value: str) -> None:
    zone = _zone_id(wish, token)
    if not _records(zone, token, name, value):
        _call(
            "POST",
            f"/zones/{zone}/dns_records",
            token,
            {"type": "TXT", "name": name, "content": f'"{value}"', "ttl": TTL_S},
        )


def _cloudflare_delete(wish: Wish, token: str, name: str, value: str) -> None:
    zone = _zone_id(wish, token)
    for record in _records(zone, token, name, value):
        _call("DELETE", f"/zones/{zone}/dns_records/{record}", token)


def _zone_id(wish: Wish, token: str) -> str:
    if wish.zone_id:
        return wish.zone_id
    found = _call("GET", f"/zones?name={wish.zone}", token)
    ids = [each.get("id") for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    if len(ids) != 1 or not re.match(r"[0-9a-f]{32}\Z", str(ids[0])):
        raise Failed(f"Cloudflare shows no zone {wish.zone} to this token: it may edit DNS, but not read the zone")
    return str(ids[0])


def _records(zone: str, token: str, name: str, value: str) -> list[str]:
    """Ids of the records with this name and value."""
    found = _call("GET", f"/zones/{zone}/dns_records?type=TXT&per_page=100&name={urllib.parse.quote(name)}", token)
    records = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    ids = [str(each.get("id")) for each in records if str(each.get("content")).strip('"') == value]
    return [each for each in ids if re.match(r"[0-9a-f]{32}\Z", each)]


def _call(method: str, path: str, token: str, body: Any = None) -> Any:
    """One request; `result` of its answer. Raises Failed in Cloudflare's words."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "serverflow"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{CLOUDFLARE}{path}", data, headers, method=method)  # noqa: S310  (a fixed host)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    for attempt in range(_TRIES):
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read(_ANSWER_LIMIT)).get("result")
        except urllib.error.HTTPError as error:
            if error.code in (429, 500, 502, 503, 504) and attempt + 1 < _TRIES:
                time.sleep(_wait(error.headers.get("Retry-After", ""), attempt))
                continue
            raise Failed(f"Cloudflare answered {error.code}: {_reason(error, token)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            said = getattr(reason, "strerror", None) or type(reason).__name__
            raise Failed(f"Cloudflare's API does not answer: {said}") from None
        except (ValueError, AttributeError, RecursionError):
            raise Failed("Cloudflare's API talks nonsense") from None
    raise AssertionError  # the last attempt returns or raises


def _wait(retry_after: str, attempt: int) -> float:
    asked = int(retry_after) if re.match(r"[0-9]{1,6}\Z", retry_after) else 2**attempt
    return float(min(asked, _LONGEST_WAIT_S))


def _reason(error: urllib.error.HTTPError, token: str) -> str:
    try:
        errors = json.loads(error.read(_ANSWER_LIMIT))["errors"]
        words = "; ".join(f"{each['message']} ({each['code']})" for each in errors)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "no reason"
    return "".join(c for c in words.replace(token, "…") if c.isprintable())[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is for one host."""

    def redirect_request(self, *_: Any) -> None:
        return None
