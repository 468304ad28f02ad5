"""Calls of Cloudflare's API: by token alone, with patience where that is safe, and with errors in its own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ProviderFailed

if TYPE_CHECKING:
    import ssl

    import httpx
    from cloudflare import AsyncCloudflare

T = TypeVar("T")

URL = "https://api.cloudflare.com/client/v4"
#: Seconds to wait before the second and third try.
PAUSES = (0.5, 2.0)
#: Seconds that we wait at most when Cloudflare asks us to (Retry-After). Its limit holds for five minutes.
PATIENCE = 60.0
#: Seconds for one call; opening a connection has five.
TIMEOUT = 30.0


class Unsure(ProviderFailed):
    """We do not know whether Cloudflare did what we asked for."""


class Calls:
    """How one account's API is called. The token is never shown, also not by repr or in an error."""

    def __init__(self, token: str, url: str, pauses: Sequence[float], timeout: float) -> None:
        self._token = token
        self._url = url
        self._pauses = pauses
        self._timeout = timeout

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncCloudflare]:
        """The SDK's client, for as long as one piece of work takes. It retries nothing itself: it would send a batch
        again without knowing whether the first one was carried out.
        """
        import httpx
        from cloudflare import AsyncCloudflare, DefaultAsyncHttpxClient

        client = AsyncCloudflare(
            api_token=self._token,
            base_url=self._url,
            max_retries=0,
            timeout=httpx.Timeout(self._timeout, connect=min(5.0, self._timeout)),
            default_headers={"Authorization": f"Bearer {self._token}"},
            http_client=DefaultAsyncHttpxClient(verify=_tls(), event_hooks={"response": [_envelope]}),
        )
        # The SDK takes these from the environment, and they win over the token.
        client.api_key = client.api_email = client.user_service_key = None
        async with client:
            yield client

    async def read(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that can be made again. Raises ProviderFailed."""
        for pause in self._pauses:
            try:
                return await self.once(call)
            except Unsure:
                await asyncio.sleep(pause)
        return await self.once(call)

    async def once(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call that is made again only when Cloudflare has surely not done it (429). Raises Unsure when it may have,
        ProviderFailed when it said no.
        """
        from cloudflare import APIConnectionError, APIStatusError

        for tries_left in range(len(self._pauses), -1, -1):
            try:
                return await call()
            except APIStatusError as error:
                if error.status_code == 429:
                    await self._wait(error, tries_left)
                    continue
                raise self.failed(error) from None
            except APIConnectionError as error:
                raise Unsure(f"Cloudflare did not answer: {self._clean(_reason(error))}") from None
        raise AssertionError("unreachable")

    def failed(self, error: Any) -> ProviderFailed:
        """An answer that is an error, as ours."""
        status = error.status_code
        said = self._clean(words(error.body)) or f"HTTP status {status}"
        if status >= 500 or status == 408:
            return Unsure(f"Cloudflare failed: {said}")
        if status in (401, 403):
            hint = "the token is wrong or may not do this: it needs Zone → Zone → Read and Zone → DNS → Edit"
            return ProviderFailed(f"Cloudflare refused: {said}", code="provider-refused", hint=hint)
        return ProviderFailed(f"Cloudflare refused: {said}")

    async def _wait(self, error: Any, tries_left: int) -> None:
        try:
            seconds = float(error.response.headers.get("retry-after", self._pauses[-1] if self._pauses else 0))
        except ValueError:  # a date; Cloudflare sends seconds
            seconds = PATIENCE + 1
        if not tries_left or not 0 <= seconds <= PATIENCE:
            raise ProviderFailed(
                f"Cloudflare has had too many calls of this token: {self._clean(words(error.body))}",
                code="provider-busy",
                hint=f"try again in {seconds:.0f} seconds",
            ) from None
        await asyncio.sleep(seconds)

    def _clean(self, text: str) -> str:
        return text.replace(self._token, "…") if self._token else text


def words(body: object) -> str:
    """Cloudflare's errors, each with its code, its place in a batch and what is below it, within 500 characters."""
    errors = body.get("errors") if isinstance(body, dict) else None
    said = []
    for error in errors if isinstance(errors, list) else []:
        if not isinstance(error, dict):
            continue
        chain = [e.get("message", "") for e in error.get("error_chain") or [] if isinstance(e, dict)]
        place = error.get("source") or {}
        text = ": ".join(str(part) for part in [error.get("message", ""), *chain] if part)
        where = f" at {place['pointer']}" if isinstance(place, dict) and place.get("pointer") else ""
        said.append(f"{text}{where} (code {error.get('code', '?')})")
    return "; ".join(said)[:500]


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading all certificate authorities takes longer than a call."""
    import httpx

    return httpx.create_ssl_context()


async def _envelope(response: httpx.Response) -> None:
    """Every answer of this API is a JSON object that says `success`. The SDK would take anything else for an empty
    list, and an empty zone must never be a misunderstanding.
    """
    if response.status_code >= 400:
        return
    await response.aread()
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _NotCloudflare("it sent something that is not JSON; is a proxy or a login page in between?")
    if body.get("success") is not True:
        raise _NotCloudflare(words(body) or "its answer does not say whether it succeeded")


class _NotCloudflare(Exception):
    """An answer that cannot be Cloudflare's, or a failure with a status of success."""


def _reason(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(cause, _NotCloudflare):
        return str(cause)
    name = type(cause).__name__ if cause else ""
    return "it took too long" if "Timeout" in name else str(cause or error) or name
