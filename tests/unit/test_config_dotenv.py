import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.config.dotenv import parse_dotenv, parse_table
from serverflow_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("\n  # only a comment\n\n", {}),
        ("A=1", {"a": "1"}),
        ("A=1\nB_2 = two words # three\n", {"a": "1", "b_2": "two words"}),
        ("export A=1\n\texport B=2\r\nC=3\r\n", {"a": "1", "b": "2", "c": "3"}),
        ("A='it is # \\n $X'", {"a": "it is # \\n $X"}),
        ('A="a\\nb\\"\\\\ # \\$" # c', {"a": 'a\nb"\\ # $'}),
        ('A="-----BEGIN\nkey\n-----END"\nB=2', {"a": "-----BEGIN\nkey\n-----END", "b": "2"}),
        ("A=", {"a": ""}),
        ("A=#fff", {"a": ""}),
        ("A=x#y", {"a": "x#y"}),
        ("\ufeffA=1", {"a": "1"}),
        ("exported=1", {"exported": "1"}),
        ("A=b=c==", {"a": "b=c=="}),
    ],
)
def test_dotenv(text: str, found: dict[str, str]) -> None:
    assert parse_dotenv(text) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nhunter2", 2),
        ("A=1\n\n1A=hunter2", 3),
        ("A='hunter2", 1),
        ('A="hunter2', 1),
        ('A="hun" ter2', 1),
        ("hunter2: x", 1),
        ("A=1\na=hunter2", 2),
        ("=hunter2", 1),
        ("KEY=-----BEGIN PRIVATE KEY-----\nhunter2hunter2A=\n", 1),
        ("A=1\nKEY=hun -----BEGIN X-----", 2),
        ("A=x\nhunter2MC4CAQAwBQ=\n", 2),
        ("A=x\nhunter2MC4CAQAwBQ==\nhunter2MC4CAQAwBQ==\n", 2),
    ],
)
def test_what_is_wrong_is_told_without_the_text(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"line {line}: ") as wrong:
        parse_dotenv(text)
    assert "hun" not in wrong.value.message + wrong.value.hint
    assert wrong.value.__cause__ is None


def test_names_that_are_long_and_no_base64() -> None:
    names = ("THE_OLD_DATABASE_PASSWORD_2", "theNewDatabasePassword", "STRIPEWEBHOOKSECRET2", "aB3")
    assert parse_dotenv("".join(f"{name}=\n" for name in names)) == {name.lower(): "" for name in names}


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_dotenv(text)


@given(st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_a_quoted_value_comes_back(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_dotenv(f'A="{quoted}"\nB=2') == {"a": value, "b": "2"}


def test_a_table() -> None:
    assert parse_table('A = "1"\nb = """two\nlines"""') == {"a": "1", "b": "two\nlines"}


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "a = hunter2",
        "a = 1",
        '[a]\nb = "hunter2"',
        'hunter2MC4CAQAwBQ = ""',
        "hunter2MC4CAQAwBQ = 1",
        'a = "hunter2"\nA = "x"',
    ],
)
def test_a_bad_table_is_told_without_the_text(text: str) -> None:
    with pytest.raises(UsageError) as wrong:
        parse_table(text)
    assert "hunter2" not in wrong.value.message + wrong.value.hint
