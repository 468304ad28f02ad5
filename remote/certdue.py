"""When a certificate is renewed, and why then. Pure: it gets the time, and asks nobody.

The authority's own word counts where there is one (ARI, RFC 9773), else it is a third of the life that is left. What is
decided here is the same whatever version of certbot a server has.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import certs
from certs import State
from serverflow_actions.kit.certificate import Wish

_HOUR, _DAY, _WEEK = 3600, 86_400, 7 * 86_400
#: Attempts after a failure: Let's Encrypt takes five failed ones an hour for each name, and the timer comes hourly.
_LONGEST_PAUSE_S = 12 * _HOUR
#: So there are three or four a week.
_SPENT_S = 2 * _DAY
#: RFC 9773, section 4.3.2: what is asked more often than that, or less, is not heard.
_SOONEST_S, _LATEST_S = 60, _DAY
#: Section 4.3.3: after an answer that is none.
NO_ANSWER_S = 6 * _HOUR


class Due(NamedTuple):
    """From when on it is renewed. `why` is ari, third, last-sixth, missing, changed or revoked."""

    at: int
    why: str


def due(wish: Wish, known: State) -> Due:
    """Its time. 0 is at once."""
    if not known.made_for or not known.not_after:
        return Due(0, "missing")
    if known.made_for != certs.purpose(wish):
        return Due(0, "changed")
    if known.revoked:
        return Due(0, "revoked")
    life = known.not_after - known.not_before
    if not known.picked:
        return Due(known.not_after - life // 3, "third")
    # An authority that errs must not make us renew it each hour, nor let it expire.
    at, last = max(known.picked, known.installed_at + life // 12), expiring_from(known)
    return Due(last, "last-sixth") if at > last else Due(at, "ari")


def expiring_from(known: State) -> int:
    """When a sixth of the life is left, and people are told: half of the time for renewing it has passed in vain."""
    return known.not_after - (known.not_after - known.not_before) // 6


def pause(failures: int, known: State, wait_s: int = 0) -> int:
    """Seconds until the next attempt, after so many in a row that failed: an hour, then twice as long each time. Never
    more than a twelfth of the life, so that there are many attempts before one of a few days is over; `wait_s` is what
    the authority asks for.
    """
    life = known.not_after - known.not_before
    longest = min(_LONGEST_PAUSE_S, max(life // 12, _HOUR)) if life > 0 else _LONGEST_PAUSE_S
    # The timer is a few minutes late now and then: what is due within the hour must not miss it.
    return max(min(_HOUR << min(failures - 1, 10), longest) - 300, min(wait_s, _WEEK))


def spent(known: State) -> int:
    """Seconds until the next order after one that was carried out in vain: what came of it could not be used. It counts
    in full with the authority (Let's Encrypt: five a week for the same names), and whoever mends the cause needs one
    that is left. Two attempts before the end of a short life.
    """
    life = known.not_after - known.not_before
    return min(_SPENT_S, life // 6) if life > 0 else _SPENT_S


def paused(known: State, now: int) -> bool:
    """Whether the pause after a failure still lasts. One of a clock that was ahead does not count."""
    return known.attempted_at <= now < known.retry_at


def may_tell(known: State, now: int) -> bool:
    """Whether units are told of it again that do not serve it: after as long as it took from its installation until
    they were told last. So that is after one, two, four, eight hours; then twice a day.
    """
    waited = min(known.told_at - known.installed_at, _LONGEST_PAUSE_S)
    return not 0 <= now - known.told_at < waited


def picked(window: tuple[int, int], known: State, draw: random.Random | None = None) -> int:
    """A moment in the window, the same one as long as the window is (RFC 9773, section 4.2)."""
    if window == known.window and known.picked:
        return known.picked
    return (draw or random.SystemRandom()).randint(*window)


def ask_again(now: int, retry_after_s: int) -> int:
    """When the authority is asked for its window once more; 0 is what it did not say."""
    return now + min(max(retry_after_s or NO_ANSWER_S, _SOONEST_S), _LATEST_S)


def rehearsal_due(wish: Wish, known: State, now: int) -> bool:
    """Once a week; a clock that was set back is no reason to wait."""
    return bool(wish.rehearsal) and not 0 <= now - known.rehearsed_at < _WEEK
