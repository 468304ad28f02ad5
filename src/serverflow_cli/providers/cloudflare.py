"""Zones at Cloudflare, by its official SDK and an API token.

https://developers.cloudflare.com/api/resources/dns/ and
https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.zone import Change, ZoneState
from .cloudflare_calls import PAUSES, TIMEOUT, URL, Calls, Unsure
from .cloudflare_records import Record, as_kept, batch, revision, served
from .dns import DnsProvider
from .errors import NoZone, ProviderFailed, no_zone, zone_changed

if TYPE_CHECKING:
    from cloudflare import AsyncCloudflare
    from cloudflare.types.zones import Zone

#: How many operations one batch may have: on free plans, and on all others.
BATCH_FREE, BATCH_PAID = 200, 3500


class Token(NamedTuple):
    """What a token is good for. `missing` names permissions as Cloudflare's dashboard does; `expires` is ISO 8601, ""
    for never or unknown.
    """

    zones: tuple[str, ...]
    missing: tuple[str, ...]
    expires: str


class Cloudflare(DnsProvider):
    """See DnsProvider. `account` is an account's id, wanted when the token sees several. `servers` replaces what
    addresses() would find: (name, address, port) of each. `pauses` are the seconds before each further try, `timeout`
    those of one call.
    """

    def __init__(
        self,
        token: str,
        *,
        account: str = "",
        servers: Sequence[tuple[str, str, int]] = (),
        base_url: str = URL,
        pauses: Sequence[float] = PAUSES,
        timeout: float = TIMEOUT,
    ) -> None:
        self._calls = Calls(token, base_url, pauses, timeout)
        self._account = account
        self._servers = list(servers)

    async def check(self) -> Token:
        """What the token may do. Raises ProviderFailed when it is not valid."""
        async with self._calls.client() as client:
            expires = await self._verify(client)
            found = await self._zones(client)
            missing = [] if found else ["Zone → Zone → Read, for at least one zone"]
            if found:
                zone = found[0].id
                if not await self._may(lambda: client.dns.records.list(zone_id=zone, per_page=1)):
                    missing.append("Zone → DNS → Read")
                # A batch of nothing: only the permission is looked at.
                if not await self._may(lambda: client.dns.records.batch(zone_id=zone, deletes=[], posts=[])):
                    missing.append("Zone → DNS → Edit")
        return Token(tuple(sorted(zone.name + "." for zone in found)), tuple(missing), expires)

    async def zones(self) -> list[str]:
        """See DnsProvider. Zones of every account that the token sees, or of the one that was given."""
        async with self._calls.client() as client:
            return sorted({zone.name + "." for zone in await self._zones(client)})

    async def add(self, zone: str) -> None:
        """See DnsProvider. It is `pending` until the parent names Cloudflare's servers; records can be made before."""
        async with self._calls.client() as client:
            try:
                await self._find(client, zone)
            except NoZone:
                account = self._account or await self._only_account(client)
                name = _bare(zone)
                await self._calls.once(lambda: client.zones.create(account={"id": account}, name=name, type="full"))

    async def remove(self, zone: str) -> None:
        """See DnsProvider."""
        async with self._calls.client() as client:
            zone_id = (await self._find(client, zone)).id
            await self._calls.once(lambda: client.zones.delete(zone_id=zone_id))

    async def fetch(self, zone: str) -> ZoneState:
        """See DnsProvider."""
        async with self._calls.client() as client:
            found = await self._find(client, zone)
            return _state(found, await self._records(client, found.id))

    async def apply(self, zone: str, changes: Sequence[Change], revision: str) -> None:
        """See DnsProvider. One call, which Cloudflare carries out in one transaction; between our look and this call
        somebody else has some milliseconds.
        """
        async with self._calls.client() as client:
            found = await self._find(client, zone)
            records = await self._records(client, found.id)
            before = _state(found, records)
            if before.revision != revision:
                raise zone_changed(before.name)
            todo = batch(records, changes, before.name)
            _within_limit(found, todo.size())
            if not todo.size():
                return
            try:
                await self._calls.once(
                    lambda: client.dns.records.batch(
                        zone_id=found.id, deletes=_any(todo.deletes), patches=_any(todo.patches), posts=_any(todo.posts)
                    )
                )
            except Unsure as error:
                after = _state(found, await self._records(client, found.id))
                if not _done(after, changes):
                    seen = "is as before so far" if after.revision == revision else "has changed, but not as asked"
                    hint = "look with sf dns plan before you try again"
                    raise ProviderFailed(f"{error.message}; the zone {before.name} {seen}", hint=hint) from None

    async def addresses(self, zone: str) -> list[tuple[str, str, int]]:
        """See DnsProvider. The servers that Cloudflare assigned, resolved by this machine's resolver."""
        async with self._calls.client() as client:
            names = [_absolute(name) for name in (await self._find(client, zone)).name_servers or []]
        return list(self._servers) or await _resolve(names)

    async def ds(self, zone: str) -> tuple[str, ...]:
        """See DnsProvider. () also when the token may not see it."""
        async with self._calls.client() as client:
            zone_id = (await self._find(client, zone)).id
            try:
                found = await self._calls.read(lambda: client.dns.dnssec.get(zone_id=zone_id))
            except ProviderFailed as error:
                if error.code == "provider-refused":
                    return ()
                raise
        if found is None or found.status not in ("active", "pending") or not found.digest:
            return ()
        return (f"{int(found.key_tag or 0)} {found.algorithm} {found.digest_type} {found.digest.lower()}",)

    async def _verify(self, client: AsyncCloudflare) -> str:
        try:
            token = await self._calls.read(client.user.tokens.verify)
        except Unsure:
            raise
        except ProviderFailed:
            # Tokens that an account owns are unknown here. They must see a zone or an account instead.
            if not await self._zones(client) and not await self._accounts(client):
                raise
            return ""
        if token is None or token.status != "active":
            status = token.status if token else "unknown"
            raise ProviderFailed(f"Cloudflare says that this token is {status}", hint="make a new one in its dashboard")
        return token.expires_on.isoformat() if token.expires_on else ""

    async def _may(self, call: Any) -> bool:
        try:
            await self._calls.read(call)
        except Unsure:
            raise
        except ProviderFailed as error:
            return error.code != "provider-refused"  # a complaint about the contents is a yes
        return True

    async def _zones(self, client: AsyncCloudflare, name: str = "") -> list[Zone]:
        query: dict[str, Any] = {"per_page": 50}  # the most that Cloudflare gives
        if name:
            query["name"] = name
        if self._account:
            query["account"] = {"id": self._account}
        return await self._calls.read(lambda: _all(client.zones.list(**query)))

    async def _find(self, client: AsyncCloudflare, zone: str) -> Zone:
        name = _bare(zone)
        found = [z for z in await self._zones(client, name) if z.name.lower() == name]
        if not found:
            raise no_zone("Cloudflare", _absolute(name))
        # The same name may wait in several accounts; it is active in one at most.
        chosen = found if len(found) == 1 else [z for z in found if z.status == "active"]
        if len(chosen) != 1:
            accounts = ", ".join(f"{z.account.name} ({z.account.id})" for z in found)
            hint = "say which account in fleet.toml"
            raise ProviderFailed(f"several accounts have a zone {name}: {accounts}", code="several-accounts", hint=hint)
        return chosen[0]

    async def _records(self, client: AsyncCloudflare, zone_id: str) -> list[Record]:
        found = await self._calls.read(lambda: _all(client.dns.records.list(zone_id=zone_id, per_page=5000)))
        return [record.to_dict(mode="json") for record in found]

    async def _accounts(self, client: AsyncCloudflare) -> list[Any]:
        return await self._calls.read(lambda: _all(client.accounts.list(per_page=50)))

    async def _only_account(self, client: AsyncCloudflare) -> str:
        found = await self._accounts(client)
        if len(found) != 1:
            seen = ", ".join(f"{a.name} ({a.id})" for a in found) or "none"
            raise ProviderFailed(
                f"in which account is the zone to be? This token sees: {seen}",
                code="several-accounts",
                hint="say which account in fleet.toml"
                if found
                else "the token needs Account → Account Settings → Read",
            )
        return str(found[0].id)


async def _all(pages: Any) -> list[Any]:
    return [item async for item in pages]


def _state(zone: Zone, records: list[Record]) -> ZoneState:
    name = _absolute(zone.name)
    servers = tuple(sorted(_absolute(server) for server in zone.name_servers or []))
    return ZoneState(name, served(records, name), revision(records), servers)


def _done(state: ZoneState, changes: Sequence[Change]) -> bool:
    now = {(s.rrset.name, s.rrset.type): s for s in state.rrsets}
    for change in changes:
        about = change.after or change.before
        wanted = as_kept(change.after) if change.after else None
        if about and now.get((about.rrset.name, about.rrset.type)) != wanted:
            return False
    return True


def _within_limit(zone: Zone, operations: int) -> None:
    free = zone.plan is None or (zone.plan.legacy_id or "free") == "free"
    limit = BATCH_FREE if free else BATCH_PAID
    if operations > limit:
        plan = "the free plan" if free else "this plan"
        raise ProviderFailed(
            f"{operations} changes of records are more than the {limit} that Cloudflare does at once on {plan}; "
            "nothing was done",
            code="too-many-changes",
            hint="change the zone in steps: fewer records in fleet.toml at a time",
        )


async def _resolve(names: Sequence[str]) -> list[tuple[str, str, int]]:
    from dns.asyncresolver import Resolver
    from dns.exception import DNSException

    found = []
    for name in names:
        try:
            answers = await Resolver().resolve_name(name)
        except (DNSException, OSError) as error:
            said = str(error)
            raise ProviderFailed(f"the name server {name} has no address that we can find: {said}") from None
        found += [(name, address, 53) for address in answers.addresses()]
    return found


def _any(operations: list[dict[str, Any]]) -> Any:
    """The SDK's types are one per type of record; ours are checked against Cloudflare's schema in the tests."""
    return operations


def _bare(zone: str) -> str:
    return zone.rstrip(".").lower()


def _absolute(name: str) -> str:
    return name.rstrip(".").lower() + "."
