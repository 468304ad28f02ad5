"""When certificates are renewed: by the authority's word, else at a third of the life left; and after failures."""

from __future__ import annotations

import random

import pytest

import certdue
import certs
from certs import State
from serverflow_actions.kit.certificate import Wish

NOW = 1_800_000_000
HOUR, DAY = 3600, 86_400
WISH = Wish("web1", ("web1.acme.app", "*.web1.acme.app"), zone="web1.acme.app", servers=("192.0.2.1:53",), key="web1")


def known(days: int, **fields: object) -> State:
    """A certificate of so many days, issued now."""
    found = State(made_for=certs.purpose(WISH), not_before=NOW, not_after=NOW + days * DAY)
    return found._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("days", "left"), [(90, 30), (45, 15), (6, 2)])
def test_at_a_third_of_the_life(days: int, left: int) -> None:
    assert certdue.due(WISH, known(days)) == (NOW + (days - left) * DAY, "third")
    # Half of the time for it has passed when people are told.
    assert certdue.expiring_from(known(days)) == NOW + days * DAY - left * DAY // 2


def test_what_is_missing_changed_or_revoked_is_due_at_once() -> None:
    assert certdue.due(WISH, State()) == (0, "missing")
    assert certdue.due(WISH, known(90, revoked="superseded")) == (0, "revoked")
    for other in (
        WISH._replace(names=("web1.acme.app",)),
        WISH._replace(directory="https://other.example/dir"),
        WISH._replace(key_type="rsa-2048"),
    ):
        assert certdue.due(other, known(90)) == (0, "changed")
    for same in (WISH._replace(names=WISH.names[::-1]), WISH._replace(reload=("nginx.service",), email="a@b.de")):
        assert certdue.due(same, known(90)).why == "third"


def test_the_authoritys_word_counts_in_both_directions() -> None:
    early, late = NOW - DAY, NOW + 70 * DAY
    assert certdue.due(WISH, known(90, picked=early)) == (early, "ari")
    assert certdue.due(WISH, known(90, picked=late)) == (late, "ari")


def test_but_it_cannot_let_it_expire() -> None:
    assert certdue.due(WISH, known(90, picked=NOW + 89 * DAY)) == (NOW + 75 * DAY, "last-sixth")


@pytest.mark.parametrize("days", [90, 45, 6])
def test_nor_have_us_renew_it_again_and_again(days: int) -> None:
    young = known(days, picked=NOW - DAY, installed_at=NOW)
    assert certdue.due(WISH, young) == (NOW + days * DAY // 12, "ari")
    # A clock that was ahead when it was installed is no reason to wait for ever.
    assert certdue.due(WISH, young._replace(installed_at=NOW + 400 * DAY)).at == certdue.expiring_from(young)


def test_a_pause_lasts_but_not_that_of_a_clock_that_was_ahead() -> None:
    tried = known(90, attempted_at=NOW, retry_at=NOW + HOUR)
    assert certdue.paused(tried, NOW) and certdue.paused(tried, NOW + HOUR - 1)
    assert not certdue.paused(tried, NOW + HOUR) and not certdue.paused(tried, NOW - 1)


@pytest.mark.parametrize(("told", "wait"), [(3, 3), (HOUR, HOUR), (5 * HOUR, 5 * HOUR), (30 * DAY, 12 * HOUR)])
def test_units_are_told_again_after_as_long_as_it_took(told: int, wait: int) -> None:
    late = known(90, installed_at=NOW, told_at=NOW + told)
    assert not certdue.may_tell(late, NOW + told + wait - 1) and certdue.may_tell(late, NOW + told + wait)
    assert certdue.may_tell(late, NOW + told - 1), "the clock was set back"
    assert certdue.may_tell(late._replace(installed_at=NOW + told + 1), NOW + told + 1), "a new one"


def test_the_moment_in_the_window_stays_as_long_as_the_window() -> None:
    window = NOW + DAY, NOW + 3 * DAY
    draws = {certdue.picked(window, known(90), random.Random(seed)) for seed in range(50)}
    assert len(draws) > 40 and all(window[0] <= each <= window[1] for each in draws)
    kept = known(90, window=window, picked=NOW + 2 * DAY)
    assert certdue.picked(window, kept) == NOW + 2 * DAY
    assert NOW <= certdue.picked((NOW, NOW + 60), kept) <= NOW + 60


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(0, 6 * HOUR), (1, 60), (60, 60), (HOUR, HOUR), (DAY, DAY), (30 * DAY, DAY), (10**9, DAY)],
)
def test_asked_no_more_often_than_the_rfc_allows(retry_after: int, seconds: int) -> None:
    assert certdue.ask_again(NOW, retry_after) == NOW + seconds


@pytest.mark.parametrize(
    ("days", "hours"),
    [(90, [1, 2, 4, 8, 12, 12]), (45, [1, 2, 4, 8, 12, 12]), (6, [1, 2, 4, 8, 12, 12]), (1, [1, 2, 2])],
)
def test_pauses_grow_but_leave_many_attempts(days: int, hours: list[int]) -> None:
    pauses = [certdue.pause(number, known(days)) for number in range(1, len(hours) + 1)]
    assert pauses == [each * HOUR - 300 for each in hours]
    # Let's Encrypt: five failed validations an hour.
    assert min(pauses) > HOUR / 5
    assert certdue.pause(10_000, known(days)) == pauses[-1]


def test_without_any_certificate_the_pauses_are_the_same() -> None:
    assert [certdue.pause(number, State()) // 60 for number in (1, 2, 9)] == [55, 115, 715]


def test_what_the_authority_asks_for_is_waited_for_but_not_forever() -> None:
    assert certdue.pause(1, known(90), 2 * DAY) == 2 * DAY
    assert certdue.pause(1, known(90), 400 * DAY) == 7 * DAY


def test_a_rehearsal_once_a_week() -> None:
    assert not certdue.rehearsal_due(WISH, State(), NOW)
    wish = WISH._replace(rehearsal="https://staging.example/dir")
    assert certdue.rehearsal_due(wish, State(), NOW)
    assert not certdue.rehearsal_due(wish, State(rehearsed_at=NOW - 6 * DAY), NOW)
    assert certdue.rehearsal_due(wish, State(rehearsed_at=NOW - 7 * DAY), NOW)
    assert certdue.rehearsal_due(wish, State(rehearsed_at=NOW + DAY), NOW), "the clock was set back"
