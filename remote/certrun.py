"""One certificate's turn: look whether it is due, have it issued, put it in place, see it served. Root.

It counts as renewed when every endpoint has shown it (certdeliver.py). Whatever fails before, the old one stays served,
and people are told.
"""

from __future__ import annotations

import calendar
import time
from typing import Any

import certacme
import certari
import certdeliver
import certdue
import certinstall
import certnews
import certs
import certsandbox
import certx509
import store
from certs import State
from serverflow_actions.kit.certificate import Wish


class NotDone(Exception):
    """A sentence: why there is no new certificate. `wait_s` is what the authority asks for, or certdue.spent."""

    def __init__(self, sentence: str, wait_s: int = 0) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class NotRemembered(Exception):
    """A sentence: why what was done is not known here. Asked for again it comes to the same."""


def turn(name: str, *, now: bool = False, force: bool = False) -> None:
    """What the timer does with each certificate. `now` is for somebody who has mended something, and waits: a pause
    after failures is not waited for, and nothing is rehearsed; with `force` it need not even be due. Raises KeyError
    where there is none of this name. The caller holds the lock.
    """
    try:
        wish = certs.read(name)
        certs.credential(wish)
    except certs.Damaged as error:
        certnews.damaged(name, str(error))
        certnews.expiring(name, certs.state(name))
        return
    certnews.in_order(name)
    known = _asked(wish, _found(name), _now())
    certs.remember(name, known)
    is_due = certdue.due(wish, known).at <= _now()
    if force or (is_due and (now or not certdue.paused(known, _now()))):
        known = _asked(wish, _attempted(wish, known), _now())
        certs.remember(name, known)
    elif (known.failures or known.said) and known.served and not is_due:
        known = _forgiven(name, known)
    if known.made_for:
        known = certdeliver.delivered(wish, known, insist=now)
    certnews.expiring(name, known)
    if not now and certdue.rehearsal_due(wish, known, _now()):
        _rehearsed(wish, known)


def broke_off(name: str, error: Exception) -> None:
    """A turn that ended as none should is a failure like others: people are told, and the next one waits."""
    words = error.strerror if isinstance(error, OSError) else type(error).__name__
    _failed(name, certs.state(name), f"renewing broke off: {words}")


def revoke(name: str, reason: str) -> None:
    """Raises KeyError, NotDone, NotRemembered, OSError. What was revoked is due."""
    try:
        wish = certs.read(name)
        credential = certs.credential(wish)
    except certs.Damaged as error:
        raise NotDone(str(error)) from None
    known = _found(name)
    version = certinstall.current(name)
    if not version:
        raise NotDone("there is no certificate that could be revoked")
    if known.revoked:
        raise NotDone(f"it was revoked already ({known.revoked}): `sf cert renew {name}` has another one issued")
    chain = (store.read_file(certinstall.path(version, certinstall.CHAIN)) or b"").decode("ascii", "replace")
    try:
        certificate = certx509.split(chain)[0]
    except certx509.Unusable as error:
        raise NotDone(str(error)) from None
    directory = certs.issued_by(known) or wish.directory  # the wish may have moved on
    order = certacme.order(
        "revoke", wish, credential, directory, certificate=certificate, reason=reason, account=known.account
    )
    told = certsandbox.perform(name, order)
    if not told["ok"]:
        raise NotDone(str(told.get("said", "")))
    try:
        certs.remember(name, certs.state(name)._replace(revoked=reason, last_revoked=version, retry_at=0))
    except OSError as error:
        raise NotRemembered(str(error.strerror)) from None


def _now() -> int:
    return int(time.time())


def _found(name: str) -> State:
    """What is known, and the link as it is known to be: a turn that was cut off may have left another one, somebody
    none.
    """
    known = certs.state(name)
    if known.version == certinstall.current(name):
        return known
    if not certinstall.is_whole(known.version):
        return known._replace(made_for="")
    certinstall.link(name, known.version)
    certinstall.sweep(name)
    return known._replace(served=False)


# --- when ------------------------------------------------------------------------------------------------------------


def _asked(wish: Wish, known: State, now: int) -> State:
    """With what the authority says about when to renew, if it is time to ask."""
    if not (known.ari_id and known.made_for and now < known.not_after):
        return known
    if known.asked_at <= now < known.ask_again:
        return known
    answer = certari.ask(wish.directory, known.ari_id, now, known.not_after)
    known = known._replace(asked_at=now, ask_again=certdue.ask_again(now, answer.retry_after), ari_said=answer.said)
    if answer.window != (0, 0):
        picked = certdue.picked(answer.window, known)
        return known._replace(window=answer.window, picked=picked, explanation=answer.explanation)
    # What it said before still counts while it does not answer.
    return known if answer.offered else known._replace(window=(0, 0), picked=0, explanation="")


# --- an attempt ------------------------------------------------------------------------------------------------------


def _attempted(wish: Wish, known: State) -> State:
    """Remembered at once: a turn that is cut off after that goes on with what is in its place."""
    try:
        known = _issued(wish, _now())
    except NotDone as error:
        return _failed(wish.name, known, str(error), error.wait_s)
    certs.remember(wish.name, known)
    return known


def _failed(name: str, known: State, said: str, wait_s: int = 0) -> State:
    """People are told first: what follows may fail too. Raises OSError."""
    now, failures = _now(), known.failures + 1
    retry = now + certdue.pause(failures, known, wait_s)
    known = known._replace(failures=failures, said=said, attempted_at=now, retry_at=retry)
    certnews.failed(name, known)
    certs.remember(name, known)
    return known


def _forgiven(name: str, known: State) -> State:
    """Failures of a renewal before its time are over: the certificate is good, and served."""
    known = known._replace(failures=0, said="", retry_at=0)
    certs.remember(name, known)
    certnews.served(name, known)
    return known


def _issued(wish: Wish, now: int) -> State:
    """Key and certificate in their place, and what is known of them. Raises NotDone; then nothing has changed."""
    version, found = _ordered(wish, wish.directory, now)
    before = certs.state(wish.name)
    return State(
        made_for=certs.purpose(wish), version=version, account=certacme.account_of(wish, wish.directory),
        serial=found.serial, issuer=found.issuer, fingerprint=found.fingerprint, ari_id=found.ari_id,
        not_before=found.not_before, not_after=found.not_after, installed_at=now, attempted_at=now,
        not_served="not looked at yet", was_served=before.was_served, rehearsed_at=before.rehearsed_at,
        rehearsal=before.rehearsal, last_revoked=before.last_revoked,
    )  # fmt: skip


def _ordered(wish: Wish, directory: str, now: int, *, install: bool = True) -> tuple[str, certx509.Certificate]:
    """Key, request and order; with `install` both files in their place: the version, and what the certificate says.
    Raises NotDone. What does not count is swept away.
    """
    wait_s = 0
    try:
        credential = certs.credential(wish)
        begun = certinstall.begin(wish.name)
        key = certinstall.path(begun, certinstall.KEY)
        certx509.make_key(wish.key_type, key)
        csr = certx509.request(key, wish.names)
        told = certsandbox.perform(wish.name, certacme.order("issue", wish, credential, directory, csr=csr))
        if not told["ok"]:
            raise NotDone(_line(told.get("said", "")), _seconds_until(told.get("retry_after", ""), now))
        wait_s = certdue.spent(certs.state(wish.name))
        chain = str(told.get("chain", ""))
        found = certx509.check(chain, key, wish.names, now)
        whole = "".join(certx509.split(chain))
        return _installed(wish, begun, whole) if install else "", found
    except (certs.Damaged, certx509.Unusable) as error:
        raise NotDone(str(error), wait_s) from None
    except OSError as error:
        raise NotDone(f"it cannot be put in place: {error.strerror}", wait_s) from None
    except KeyError as error:
        raise NotDone(f"this server is not whole: {error}") from None
    finally:
        certinstall.sweep(wish.name)


def _installed(wish: Wish, begun: str, chain: str) -> str:
    """The version that counts now. Raises NotDone, and the one before counts again, when a unit that would have started
    before would not start with it, as after a reboot it has to; OSError.
    """
    before = certinstall.current(wish.name)
    sound = [unit for unit in wish.reload if not certdeliver.refusal(unit)]
    version = certinstall.finish(wish.name, begun, chain)
    for said in filter(None, map(certdeliver.refusal, sound)):
        certinstall.link(wish.name, before)
        raise NotDone(f"the one before was put back: {said}", certdue.spent(certs.state(wish.name)))
    return version


def _line(text: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text))[:1500]


def _seconds_until(text: Any, now: int) -> int:
    try:
        return max(0, calendar.timegm(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")) - now)
    except ValueError:
        return 0


# --- a rehearsal -----------------------------------------------------------------------------------------------------


def _rehearsed(wish: Wish, known: State) -> None:
    """The whole way but for the end: what comes of it is thrown away, with its key."""
    said = ""
    try:
        _ordered(wish, wish.rehearsal, _now(), install=False)
    except NotDone as error:
        said = str(error)
    certs.remember(wish.name, known._replace(rehearsed_at=_now(), rehearsal=said))
    certnews.rehearsed(wish.name, said)
