"""`sf firewall`: rules are a wish in fleet.toml, so all but `list` edit it and apply that part."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from serverflow_actions import registry
from serverflow_actions.kit import grammar

from ..errors import UsageError
from .generated import run
from .options import ConfirmWithin, LockWait, NoConfirm, On, Plan, Safe, Timeout, Yes, safety, seconds
from .session import Session

if TYPE_CHECKING:
    from ..flows.safe import Safety

Rules = Annotated[
    list[str],
    typer.Argument(metavar="RULE", help="PORT/tcp, PORT/udp or PORT-PORT/tcp, each with or without `from NETWORK`"),
]


def allow(
    context: typer.Context,
    rules: Rules,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Let something in: `sf firewall allow 443/tcp 5432/tcp from 10.0.0.0/8 --on @db`.

    The first rule for a server closes all its ports but SSH's and those that its roles need. What it forwards is not
    filtered: ports that Docker publishes go past these rules.
    """
    how = _How(plan, yes, safety(safe, confirm_within, no_confirm), timeout, lock_wait)
    return _change(context.obj, "allow", rules, on, how)


def deny(
    context: typer.Context,
    rules: Rules,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Keep something out that another rule would let in: `sf firewall deny 443/tcp from 203.0.113.0/24 --on @app`."""
    how = _How(plan, yes, safety(safe, confirm_within, no_confirm), timeout, lock_wait)
    return _change(context.obj, "deny", rules, on, how)


def remove(
    context: typer.Context,
    rules: Rules,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Neither allow nor deny something any more."""
    how = _How(plan, yes, safety(safe, confirm_within, no_confirm), timeout, lock_wait)
    return _change(context.obj, "remove", rules, on, how)


def list_(context: typer.Context, *, on: On, timeout: Timeout = None) -> int:
    """Show the rules of servers, and whether they are in force."""
    return run(context.obj, registry.load("firewall.list"), {}, {}, on=on, timeout=timeout)


def disable(
    context: typer.Context,
    *,
    on: On,
    plan: Plan = False,
    yes: Yes = False,
    safe: Safe = False,
    confirm_within: ConfirmWithin = None,
    no_confirm: NoConfirm = False,
    timeout: Timeout = None,
    lock_wait: LockWait = "30s",
) -> int:
    """Take the firewall off servers, and its stanzas out of fleet.toml. Rules of others stay."""
    how = _How(plan, yes, safety(safe, confirm_within, no_confirm), timeout, lock_wait)
    session: Session = context.obj
    how_told = how.told(session)
    result = session.in_workspace(lambda w: session.flows.firewall_disable(w, on, **how_told))
    return session.finish(result, mutates=True, planned=plan)


class _How(NamedTuple):
    """The options that all commands share that change servers."""

    plan: bool
    yes: bool
    safety: Safety
    timeout: str | None
    lock_wait: str

    def told(self, session: Session) -> dict[str, Any]:
        """As the flows take it. Raises UsageError."""
        return {
            "plan": self.plan,
            "approve": session.approver(yes=self.yes or self.plan),
            "safety": self.safety,
            "timeout_s": seconds("--timeout", self.timeout) if self.timeout else None,
            "lock_wait_s": seconds("--lock-wait", self.lock_wait),
            "report": session.report,
        }


def _change(session: Session, verb: Literal["allow", "deny", "remove"], words: list[str], on: str, how: _How) -> int:
    rules, how_told = rules_of(words), how.told(session)
    result = session.in_workspace(lambda w: session.flows.firewall_rules(w, verb, on, rules, **how_told))
    return session.finish(result, mutates=True, planned=how.plan)


def rules_of(words: list[str]) -> list[str]:
    """Rules, whether each was quoted or not: `from` and its network belong to the rule before. Raises UsageError."""
    try:
        return [grammar.rule(text) for text in re.split(r"(?<! from) (?!from )", " ".join(words))]
    except ValueError as error:
        raise UsageError(str(error)) from None


COMMANDS = {"allow": allow, "deny": deny, "remove": remove, "list": list_, "disable": disable}
