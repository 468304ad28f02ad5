from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.errors import UsageError
from serverflow_cli.model.selector import ROLES, resolve, terms


@dataclass(frozen=True)
class Machine:
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


FLEET = {
    "web2": Machine(("app",), ("prod",)),
    "web1": Machine(("app",)),
    "db1": Machine(("db", "dns"), ("prod", "eu")),
}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("web1", ["web1"]),
        ("web1,web2", ["web2", "web1"]),
        ("web*", ["web2", "web1"]),
        ("w?b1", ["web1"]),
        ("*[12]", ["web2", "web1", "db1"]),
        ("@app", ["web2", "web1"]),
        ("+prod", ["web2", "db1"]),
        ("all", ["web2", "web1", "db1"]),
        ("web1,@app,!web2", ["web1"]),
        ("!db1,all", ["web2", "web1"]),
        ("all,!+prod", ["web1"]),
        ("all, !web*", ["db1"]),
        ("all,!@mail", ["web2", "web1", "db1"]),
    ],
)
def test_selects_in_the_order_of_the_file(selector: str, expected: list[str]) -> None:
    assert resolve(FLEET, selector) == expected


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        ("web9", "did you mean web2 or web1?"),
        ("web1,dbb1", "did you mean db1?"),  # also beside a term that matches
        ("all,!dbb1", "did you mean db1?"),  # a misspelt exclusion must not select what it should spare
        ("+prd", "did you mean +prod?"),
        ("@mail", "the fleet has web2, web1, db1"),
        ("zz*", "the fleet has web2, web1, db1"),
        ("web1,!web1", "the fleet has web2, web1, db1"),
        ("!web1", "it only excludes; write all,!web1"),
    ],
)
def test_an_empty_match_is_a_usage_error_that_helps(selector: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(FLEET, selector)
    assert caught.value.exit_code == 2
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "selector",
    ["", ",", "web1,", "WEB1", "-web1", "@", "+", "!", "!!web1", "web 1", "web1;id", "@bogus", "a\n", "@@db"],
)
def test_malformed(selector: str) -> None:
    with pytest.raises(UsageError):
        resolve(FLEET, selector)
    with pytest.raises(ValueError):
        terms(selector)


@pytest.mark.parametrize("selector", ["local", "web1,local", "!local"])
def test_local_is_reserved(selector: str) -> None:
    with pytest.raises(UsageError, match="reserved"):
        resolve(FLEET, selector)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,3}", fullmatch=True).filter(lambda name: name not in ("all",))
MACHINES = st.builds(
    Machine, st.lists(st.sampled_from(ROLES), unique=True).map(tuple), st.lists(NAMES, unique=True).map(tuple)
)
FLEETS = st.dictionaries(NAMES, MACHINES, min_size=1, max_size=6)


@given(FLEETS, st.data())
def test_union_and_exclusion_are_those_of_sets(fleet: dict[str, Machine], data: st.DataObject) -> None:
    subsets = st.sets(st.sampled_from(list(fleet)))
    wanted, spared = data.draw(subsets), data.draw(subsets)
    selector = data.draw(st.permutations([*wanted, *(f"!{name}" for name in spared)]))
    expected = [name for name in fleet if name in wanted - spared]
    if expected:
        assert resolve(fleet, ",".join(selector)) == expected
    else:
        with pytest.raises(UsageError):
            resolve(fleet, ",".join(selector))


@given(FLEETS, st.text(alphabet="abw1*?[]@+!,- .", max_size=12))
def test_any_text_selects_servers_or_is_a_usage_error(fleet: dict[str, Machine], selector: str) -> None:
    try:
        found = resolve(fleet, selector)
    except UsageError:
        return
    assert found and found == [name for name in fleet if name in found]
