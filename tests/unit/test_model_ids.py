from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.model.ids import is_ulid, new_ulid, ulid_time_ms


def test_it_writes_the_example_of_the_ulid_specification() -> None:
    # github.com/ulid/spec: 1469918176385 is 01ARYZ6S41 in its first ten characters.
    ulid = new_ulid(lambda: 1469918176385 * 1_000_000, bytes)
    assert ulid == "01ARYZ6S41" + "0" * 16
    assert ulid_time_ms(ulid) == 1469918176385


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(earlier: int, later: int, noise: bytes) -> None:
    first, second = (new_ulid(partial(int, ms * 1_000_000), lambda _: noise) for ms in (earlier, later))
    assert (first < second) == (earlier < later)
    assert is_ulid(first) and is_ulid(second)


def test_two_ids_differ() -> None:
    assert len({new_ulid() for _ in range(100)}) == 100


def test_what_is_no_id() -> None:
    good = new_ulid()
    assert is_ulid(good)
    for bad in ("", good[:-1], good + "0", good.lower(), "8" + good[1:], good[:-1] + "U", good + "\n"):
        assert not is_ulid(bad)
