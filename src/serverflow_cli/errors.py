"""Every error that `sf` shows, each with the exit code that scripts rely on.

The groups follow whose fault it was and what helps: fix the call, the files, the keys, the network, or the server.
"""

from __future__ import annotations

from typing import ClassVar


class SfError(Exception):
    """An error with a sentence for people, a code for machines and, where there is one, a way out."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", code: str = "", server: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.server = server
        #: What the server said and did before it failed, where there is a receipt: a model.result.Reply.
        self.reply: object = None


class UsageError(SfError):
    """The command line asks for something that does not exist or does not fit."""

    exit_code = 2
    default_code = "usage"


class ConfigError(SfError):
    """fleet.toml, pins.toml or a key file says something that cannot be used."""

    exit_code = 3
    default_code = "config"


class TrustError(SfError):
    """A key, signature, permission or pin was refused, by us or by the server."""

    exit_code = 4
    default_code = "trust"


class Unreachable(SfError):
    """No working SSH connection."""

    exit_code = 5
    default_code = "unreachable"


class ActionFailed(SfError):
    """The server ran the action and it failed."""

    exit_code = 6
    default_code = "action-failed"


class ProviderError(SfError):
    """An outside provider (DNS, storage, mail) failed."""

    exit_code = 7
    default_code = "provider"


class Locked(SfError):
    """Someone else is at work: on the server or in the fleet folder."""

    exit_code = 8
    default_code = "locked"


class PlanChanged(SfError):
    """What was approved, or what it was based on, is no longer so."""

    exit_code = 9
    default_code = "plan-changed"


class PartialFailure(SfError):
    """Some servers failed, in different ways or beside others that succeeded."""

    exit_code = 10
    default_code = "partial"


class Drift(SfError):
    """`--check` found that a server is not as the fleet file says."""

    exit_code = 11
    default_code = "drift"


class RolledBack(SfError):
    """A safe change undid itself."""

    exit_code = 12
    default_code = "rolled-back"


class OutcomeUnknown(SfError):
    """The change waits for confirmation, or nobody can say yet how it ended."""

    exit_code = 13
    default_code = "unknown"


class InternalError(SfError):
    """A bug of ours. The message names the exception; the traceback is shown with --debug only."""

    exit_code = 70
    default_code = "internal"

    def __init__(self, error: Exception, *, server: str = "") -> None:
        super().__init__(f"internal error: {type(error).__name__}: {error}", hint="--debug shows where", server=server)
        self.__cause__ = error


class Interrupted(SfError):
    """Ctrl-C. Its exit code, and those of the other two, are what shells report: 128 and the signal's number."""

    exit_code = 130
    default_code = "interrupted"


class Terminated(Interrupted):
    """SIGTERM."""

    exit_code = 143
    default_code = "terminated"


class HungUp(Interrupted):
    """SIGHUP: the terminal is gone."""

    exit_code = 129
    default_code = "hung-up"


#: The codes that servers put into receipts (docs/protocol.md).
# fmt: off
_GROUPS: dict[type[SfError], tuple[str, ...]] = {
    TrustError: (
        "refused", "wrong-server", "wrong-challenge", "stale", "not-granted", "key-expired", "trust-expired",
        "trust-ahead", "unknown-action", "action-version", "bad-params", "bad-secrets", "bad-frame", "bad-trust",
        "bad-bundle", "older-version",
    ),
    ActionFailed: (
        "action-failed", "timeout", "out-of-memory", "killed", "output-flood", "disk-full", "sandbox-floor",
        "unsupported", "needs-package", "no-zone",
    ),
    Locked: ("locked", "pending-change"),
    PlanChanged: ("plan-changed", "base-changed", "zone-changed"),
    RolledBack: ("rolled-back",),
    OutcomeUnknown: ("indeterminate", "pending-confirm"),
}
# fmt: on
BY_CODE = {code: group for group, codes in _GROUPS.items() for code in codes}


def from_code(code: str, message: str, *, server: str = "", hint: str = "") -> SfError:
    """The error for a code that a server put into a receipt."""
    return BY_CODE.get(code, ActionFailed)(message, code=code, server=server, hint=hint)
