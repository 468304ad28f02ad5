"""`runner cert-renew [NAME]`: what the timer starts, and whoever wants a certificate now. One at a time on a server."""

from __future__ import annotations

import os

import certrun
import certs
import cronjobs
import journal
import layout

#: An operator waits for the timer's turn, the timer for nobody: it comes again.
_WAIT_S, _TIMER_WAIT_S = 900, 5


def main(name: str = "", force: str = "") -> None:
    """With a name: that one, also before its time where it says `force`. Without: each that is due."""
    try:
        with cronjobs.locked(f"{layout.CERT_RUN}/lock", _WAIT_S if name else _TIMER_WAIT_S):
            whole = [_guarded(each, bool(name), force == "force") for each in ([name] if name else certs.names())]
        if name and not all(whole):
            raise SystemExit(1)
    except TimeoutError:
        if name:
            raise SystemExit(os.EX_TEMPFAIL) from None


def revoke(name: str, reason: str) -> None:
    """`runner cert-revoke NAME REASON`: and have another one take its place at once, as clients refuse this one now.
    Its exit codes are those of sysexits(3) and tell of the revocation; 1 is said in the state.
    """
    try:
        with cronjobs.locked(f"{layout.CERT_RUN}/lock", _WAIT_S):
            certrun.revoke(name, reason)
            _guarded(name, True, False)
    except (TimeoutError, KeyError):
        raise SystemExit(os.EX_TEMPFAIL) from None
    except certrun.NotRemembered as error:
        journal.note(f"certificate {name} was revoked, and that cannot be remembered: {error}")
        raise SystemExit(os.EX_IOERR) from None
    except certrun.NotDone as error:
        _refused(name, str(error))
        raise SystemExit(1) from None
    except OSError as error:
        journal.note(f"certificate {name} was not revoked: {error.strerror}")
        raise SystemExit(os.EX_OSERR) from None


def _refused(name: str, said: str) -> None:
    """What whoever wants a revocation reads."""
    try:
        certs.remember(name, certs.state(name)._replace(said=said))
    except OSError:
        journal.note(f"certificate {name} was not revoked: {said}")
        raise SystemExit(os.EX_OSERR) from None


def _guarded(name: str, now: bool, force: bool) -> bool:
    """Whether it came to its end. What fails with one keeps no other from its turn, a full disk neither."""
    try:
        certrun.turn(name, now=now, force=force)
        return True
    except KeyError:
        journal.note(f"there is no certificate {name}")
    except Exception as error:
        journal.note(f"certificate {name}: {type(error).__name__}: {error}")
        try:
            certrun.broke_off(name, error)
        except OSError as also:
            journal.note(f"certificate {name}: that cannot be remembered: {also.strerror}")
    return False
