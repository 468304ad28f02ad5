import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.load import load, parse, read_text
from serverflow_cli.errors import ConfigError

EXAMPLE = Path(__file__).with_name("fleet.example.toml")
SMALL = 'schema = 1\n[servers.web1]\nhost = "203.0.113.7"\nroles = ["app"]\n'


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.exit_code == 3
    return caught.value.message.split("\n")


def test_the_example_loads() -> None:
    assert list(parse(EXAMPLE.read_text()).servers) == ["web1", "db1"]


def test_all_problems_at_once_each_with_its_line() -> None:
    text = """\
schema = 1
[servers.web1]
host = "203.0.113.7"
prot = 22

[[grants]]
to = "ci"
allow = ["app.*"]
on = "web1"

[[grants]]
to = "ci"
alow = ["app.*"]
on = "web9"

[redis.cache]
on = "@db"
max_memory = "256"

[notify.channels.ops]
provider = "slack"
url = "https://example.com/in/the/clear"

[cron.report]
on = "web1"
schedule = "15 3 * * *"
app = "shop"
command = "bin/report"
"""
    assert problems(text) == [
        "fleet.toml:4: servers.web1.prot: unknown key (did you mean port?)",
        "fleet.toml:11: grants[1].allow: missing",
        "fleet.toml:13: grants[1].alow: unknown key (did you mean allow?)",
        "fleet.toml:14: grants[1].on: no server is called web9 (did you mean web1?)",
        "fleet.toml:17: redis.cache.on: @db selects no server (the fleet has web1)",
        "fleet.toml:18: redis.cache.max_memory: '256' is not a size such as 256MiB",
        'fleet.toml:22: notify.channels.ops.url: must be a reference, { secret = "name" }: '
        "secrets never stand in this file",
        "fleet.toml:27: cron.report.app: no apps.shop in this file",
        "fleet.toml:28: cron.report.command: must be a list",
    ]


@pytest.mark.parametrize(
    ("stanza", "problem"),
    [
        (
            '[routes.x]\non = "web1"\nhost = "x.acme.app"\nto = { app = "shop" }',
            "routes.x.to.app: no apps.shop in this file",
        ),
        ('[dns.zones."acme.app"]\nprovider = "cf"', 'dns.zones."acme.app".provider: no dns.providers.cf in this file'),
        (
            '[[notify.routes]]\nto = ["ops"]\non = "all"\nevents = ["*"]',
            "notify.routes[0].to[0]: no notify.channels.ops in this file",
        ),
        (
            '[[grants]]\nto = "ci"\nallow = ["*"]\non = "all"\nwhere = { app = "s" }',
            "grants[0].where.app: no apps.s in this file",
        ),
    ],
)
def test_dangling_references(stanza: str, problem: str) -> None:
    (found,) = problems(f"{SMALL}{stanza}\n")
    assert found.endswith(problem)


@pytest.mark.parametrize(
    ("stanza", "problem"),
    [
        ('url = { secret = "a" }', "4: notify.channels.smtp.provider: missing"),
        ('provider = "pager"', "5: notify.channels.smtp.provider: must be one of 'slack', 'webhook', 'smtp', 'resend'"),
        ('provider = "slack"\nurl = "x"', '6: notify.channels.smtp.url: must be a reference, { secret = "name" }: '),
        ('provider = "slack"', "4: notify.channels.smtp.url: missing"),
        (
            'provider = "resend"\ntoken = { secret = "a" }\nsender = "a@b"\nto = ["x@y"]\nsendr = "a"',
            "9: notify.channels.smtp.sendr: unknown key",
        ),
        (
            'provider = "smtp"\nhots = "mx"\nhost = "mx"\nsender = "a@b"\nto = ["ana"]',
            "9: notify.channels.smtp.to[0]: 'ana' is not a mail address",
        ),
        (
            'provider = "smtp"\nhost = "mx"\nsender = "a@b"\nto = ["x@y"]\nusername = { secret = "u" }',
            "4: notify.channels.smtp: username and password go together",
        ),
    ],
)
def test_a_channel_has_the_keys_of_its_provider(stanza: str, problem: str) -> None:
    """Also one that is called like a provider."""
    found = problems(f'schema = 1\n[servers.a]\nhost = "a"\n[notify.channels.smtp]\n{stanza}\n')
    assert any(line.startswith(f"fleet.toml:{problem}") for line in found), found
    assert len(found) == 1 + ("hots" in stanza)


@pytest.mark.parametrize("events", ["cron.nothing", "crn.*", "*.failed", "cron.* loud", "cron.*  error", ""])
def test_events_that_there_are_not(events: str) -> None:
    channel = '[notify.channels.a]\nprovider = "slack"\nurl = { secret = "a" }\n'
    (found,) = problems(f'schema = 1\n{channel}[[notify.routes]]\nto = ["a"]\nevents = ["{events}"]\n')
    assert found.startswith("fleet.toml:7: notify.routes[0].events[0]: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\nkey\n", "fleet.toml:2: expected '=' after a key in a key/value pair"),
        ("schema = 1\n[servers.web1\n", "fleet.toml:2: "),
        ('schema = 1\n\nx = """', "fleet.toml:3: "),
        ("schema = 1\nschema = 2\n", "fleet.toml:2: cannot overwrite a value"),
        ("x = " + "[" * 5000, "fleet.toml: nested too deeply"),
    ],
)
def test_syntax_errors_have_a_line(text: str, message: str) -> None:
    assert problems(text)[0].startswith(message)


def test_a_missing_or_wrong_schema() -> None:
    assert problems("") == ["fleet.toml:1: schema: missing"]
    assert problems("schema = true") == ["fleet.toml:1: schema: must be a whole number, without quotes"]
    assert problems('schema = "1"') == ["fleet.toml:1: schema: must be a whole number, without quotes"]
    assert problems("schema = 2") == ["fleet.toml: schema 2 is newer than this sf, which knows 1"]
    assert problems("schema = 0") == ["fleet.toml: schema 0 is unknown; this sf knows 1"]


def test_an_older_schema_is_migrated_step_by_step() -> None:
    def rename_machines(document: dict[str, Any]) -> dict[str, Any]:
        return {("servers" if key == "machines" else key): value for key, value in document.items()}

    def host_was_address(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "servers": {name: {"host": old["address"]} for name, old in document["servers"].items()}}

    old = 'schema = -1\n[machines.web1]\naddress = "203.0.113.7"\n'
    fleet = parse(old, migrations={-1: rename_machines, 0: host_was_address})
    assert fleet.servers["web1"].host == "203.0.113.7"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_mark_and_crlf(mark: str, newline: str) -> None:
    text = mark + EXAMPLE.read_text().replace("\n", newline)
    assert parse(text) == parse(EXAMPLE.read_text())
    (problem,) = problems(mark + (SMALL + "rolles = []\n").replace("\n", newline))
    assert problem == "fleet.toml:5: servers.web1.rolles: unknown key"


def test_invalid_utf8(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_bytes(b"schema = 1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"fleet\.toml:2: byte 0xe9 is not UTF-8 text"):
        load(FleetFolder(tmp_path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(FleetFolder(tmp_path))
    (tmp_path / "fleet.toml").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        load(FleetFolder(tmp_path))


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(SMALL)
    path.chmod(0)
    if os.getuid():
        with pytest.raises(ConfigError, match="Permission denied"):
            read_text(path)
        return
    # Root may read everything, so someone else has to try.
    code = (
        "import os, sys; from pathlib import Path; from serverflow_cli.config.load import read_text\n"
        "from serverflow_cli.errors import ConfigError\n"
        "os.setuid(65534)\n"
        "try: read_text(Path(sys.argv[1]))\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "Permission denied" in done.stdout


def mutilated(value: Any) -> st.SearchStrategy[Any]:
    """The example with parts of it replaced by values of another shape."""
    junk = st.sampled_from([1, True, "x", "", [], {}, [1], {"a": 1}, 1.5])
    whole: st.SearchStrategy[Any]
    if isinstance(value, dict):
        whole = st.fixed_dictionaries({}, optional={key: mutilated(inner) for key, inner in value.items()})
    elif isinstance(value, list):
        whole = st.tuples(*map(mutilated, value)).map(lambda parts: [*parts])
    else:
        whole = st.just(value)
    return st.integers(0, 9).flatmap(lambda n: junk if n == 0 else whole)


@given(mutilated(tomllib.loads(EXAMPLE.read_text())))
def test_any_document_loads_or_is_a_configuration_error(document: Any) -> None:
    import tomli_w

    if not isinstance(document, dict):
        return
    try:
        parse(tomli_w.dumps(document))
    except ConfigError as error:
        assert all(line.startswith("fleet.toml:") for line in error.message.split("\n"))


def test_a_list_whose_only_entry_is_wrong_is_not_called_empty() -> None:
    said = problems(
        'schema = 1\n[servers.web1]\nhost = "10.0.0.1"\n[checks.a]\non = "all"\nexpect = ["tcp 127.0.0.1"]\n'
    )
    assert len(said) == 1 and "must not be empty" not in said[0]
    (empty,) = problems('schema = 1\n[servers.web1]\nhost = "10.0.0.1"\n[checks.a]\non = "all"\nexpect = []\n')
    assert "must not be empty" in empty
