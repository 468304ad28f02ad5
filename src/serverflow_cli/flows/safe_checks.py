"""`[checks]` of fleet.toml, as servers try them around a safe change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry

from ..errors import ActionFailed, TrustError
from ..model.ids import new_ulid
from ..model.result import Reply, Report, Request

if TYPE_CHECKING:
    from ..rpc.call import Caller
    from ..rpc.hello import Link

CHECKS_AT_ONCE = 16


async def ask(caller: Caller, link: Link, name: str, params: Mapping[str, Any], report: Report) -> Reply:
    """One of the actions around a change. Raises what `Caller.call` does."""
    declared = registry.load(name)
    request = Request(name, params, timeout_s=declared.timeout, read_only=declared.kind == "read")

    def quietly(event: Mapping[str, Any]) -> None:
        # The operation that people can follow is the change, and not what is asked around it.
        if event.get("t") != "op":
            report(event)

    return await caller.call(link, request, new_ulid(), declared.version, quietly)


async def failing(
    caller: Caller, link: Link, checks: Sequence[str], report: Report, *, key: str = ""
) -> dict[str, str]:
    """The checks that fail, each with what was said. Raises what `Caller.call` does; `key` is ours, by name: one that
    may not try them is told what it lacks.
    """
    failed: dict[str, str] = {}
    for start in range(0, len(checks), CHECKS_AT_ONCE):
        asked = list(checks[start : start + CHECKS_AT_ONCE])
        try:
            answer = await ask(caller, link, "safe.check", {"expect": asked}, report)
        except TrustError as error:
            if error.code == "not-granted":
                error.hint = f"sf key grant {key or 'NAME'} --allow safe.check --on {link.name}"
            raise
        failed |= failed_of(asked, answer.data.get("results"), link)
    return failed


def failed_of(asked: Sequence[str], results: Any, link: Link) -> dict[str, str]:
    """Raises TrustError when the answer is not one on these checks."""
    try:
        told = {str(one["check"]): (one["ok"] is True, str(one["said"])) for one in results}
        return {check: told[check][1] for check in asked if not told[check][0]}
    except (KeyError, TypeError):
        raise TrustError("the server's answer cannot be read", server=link.name, code="bad-answer") from None


def named(failed: Mapping[str, str]) -> str:
    """`tcp 127.0.0.1:5432 (connection refused); unit nginx.service active (failed)`."""
    return "; ".join(f"{check} ({said})" for check, said in failed.items())


def sentence(failed: Mapping[str, str]) -> str:
    """What fails, as a sentence; "" for nothing."""
    return f"{named(failed)}: {'fail' if len(failed) > 1 else 'fails'}" if failed else ""


async def before_confirming(
    caller: Caller, link: Link, op_id: str, checks: Sequence[str], report: Report, *, key: str = ""
) -> None:
    """For `sf safe confirm`: whoever confirms says that what is expected of the server holds.

    Nothing is tried once the change waits no more: then how it ended is what counts. Raises ActionFailed(check-failed).
    """
    if not checks or (await caller.greet(link)).pending != op_id:
        return
    on = f"{op_id} --on {link.name}"
    try:
        failed = sentence(await failing(caller, link, checks, report, key=key))
    except TrustError as error:
        if error.code == "not-granted":
            error.hint += f"; without the checks: sf safe confirm {on} --no-checks"
        raise
    if failed:
        raise ActionFailed(
            f"{failed}, so it was not confirmed",
            server=link.name,
            code="check-failed",
            hint=f"sf safe rollback {on}; to keep it all the same: sf safe confirm {on} --no-checks",
        )
