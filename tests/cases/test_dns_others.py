"""PowerDNS that serves others already is found out, however its settings are written."""

from __future__ import annotations

import pytest
from fakehost import FakeProbe, Server

from serverflow_actions.dns._others import refuse_others
from serverflow_actions.kit import Refused
from serverflow_actions.kit.powerdns import CONFIG, FOLDER

_MAIN = "/etc/powerdns/pdns.conf"
_BIND = f"{FOLDER}/bind.conf"
_ZONES = "/etc/powerdns/named.conf"
_LOCAL = f"{FOLDER}/local.conf"
#: As Debian's packages bring them, with ours.
_DEBIAN = {
    _MAIN: f"# launch=gmysql\ninclude-dir={FOLDER}\nlaunch=\nsecurity-poll-suffix=\n",
    _BIND: f"# the bind backend\nlaunch+=bind\nbind-config={_ZONES}\n",
    _ZONES: 'include "/var/lib/powerdns/supermaster.conf";\n# zone "example.net" {\n#   type slave;\n# };\n',
    CONFIG: "launch=gsqlite3\n",
}


def refused(files: dict[str, str], links: dict[str, str] | None = None) -> str:
    """Why it is with these files, "" when it is not."""
    server = Server()
    server.add({"files": {path: text.split("\n") for path, text in files.items()}, "links": links or {}})
    try:
        refuse_others(FakeProbe(server))
    except Refused as error:
        return str(error)
    return ""


def test_what_the_packages_bring_is_taken_over() -> None:
    assert refused(_DEBIAN) == ""
    assert refused({}) == ""
    assert refused({**_DEBIAN, "/var/lib/powerdns/supermaster.conf": "\n"}) == ""
    assert refused({**_DEBIAN, _LOCAL: "bind-config="}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "launch=gmysql",
        "launch = gmysql",
        "  launch=gmysql",
        "\tlaunch=\tgmysql  # mine",
        "launch+=gmysql",
        "launch += gmysql:first",
        "launch=\\\n gmysql",
        "launch=gmysql\r",
        "launch=\nlaunch+=bind\nlaunch+=gmysql",
        "launch=bind, gmysql",
        "launch=bind gmysql",
    ],
)
def test_a_backend_of_others_is_found(text: str) -> None:
    assert "serves by gmysql" in refused({**_DEBIAN, _LOCAL: text})
    assert "serves by gmysql" in refused({**_DEBIAN, f"{FOLDER}/zzz.conf": text}), "it is read after ours"
    assert "serves by gmysql" in refused({_MAIN: f"{text}\ninclude-dir={FOLDER}/\n"})


@pytest.mark.parametrize("text", ["#launch=gmysql", "launch=gmysql\nlaunch=", "launch= # gmysql", "launch-x=gmysql"])
def test_what_launches_nothing_is_no_backend(text: str) -> None:
    assert refused({**_DEBIAN, _LOCAL: text}) == ""


def test_included_files_are_read_in_the_order_of_their_names() -> None:
    first, then = f"{FOLDER}/a.conf", f"{FOLDER}/B.conf"
    assert refused({**_DEBIAN, first: "launch=gmysql", then: "launch="}) == ""
    assert "gmysql" in refused({**_DEBIAN, first: "launch=", then: "launch=gmysql"})
    assert refused({**_DEBIAN, f"{FOLDER}/local.conf.bak": "launch=gmysql", f"{FOLDER}/.b.conf": "launch=gmysql"}) == ""


@pytest.mark.parametrize(
    "text",
    [
        'zone "acme.test" { type master; file "/srv/acme"; };',
        'options { directory "/etc//powerdns"; }; zone acme.test IN {\n};',
        '/* all of ours */ zone "acme.test" {};',
        'include "/srv/zones";',
        'include"/srv/zones";',
        'include ; \t"/srv/zones";',
        'acl a#b { 10.0.0.1; }; zone "acme.test" { type master; };',
        'acl a//b { 10.0.0.1; }; zone "acme.test" {};',
        'acl a/* {}; zone "acme.test" {}; /* */',
        '/*all*/ zone "acme.test" {};',
        '"#" zone "acme.test" {};',
    ],
)
def test_zones_of_the_bind_backend_are_found(text: str) -> None:
    files = {**_DEBIAN, _ZONES: text, "/srv/zones": f'include "{_ZONES}";\nzone "acme.test" {{}};'}
    assert f"serves by bind here ({_ZONES})" in refused(files)


@pytest.mark.parametrize(
    "text",
    [
        '/* zone "a.test" {};',
        '/* "zone" **/',
        '// zone "a.test" {};',
        '{#zone "a.test" {};',
        'options { x "zone"; };',
        "zones {}; includes;",
        '# include "zones.conf";',
    ],
)
def test_what_is_no_zone_of_the_bind_backend(text: str) -> None:
    assert refused({**_DEBIAN, _ZONES: text}) == ""


@pytest.mark.parametrize(
    "text",
    [
        'options { directory "/etc/powerdns"; }; include "zones.conf";',
        "include /etc/powerdns/zones.conf;",
        'include\n"/etc/powerdns/zones.conf";',
        'include "/etc/powerdns/zones conf";',
        "include",
    ],
)
def test_an_include_that_leads_who_knows_where(text: str) -> None:
    files = {**_DEBIAN, _ZONES: text, "/etc/powerdns/zones.conf": ""}
    assert f"{_ZONES} includes a file by no absolute path" in refused(files)


def test_what_cannot_be_read_may_have_zones() -> None:
    """So it is with /home, /root, /run and /tmp, which an action sees empty."""
    said = "PowerDNS reads /home/ops/named.conf here, which ServerFlow cannot"
    assert said in refused({**_DEBIAN, _LOCAL: "bind-config=/home/ops/named.conf"})
    assert said in refused({**_DEBIAN, _ZONES: 'include "/home/ops/named.conf";'})
    assert said in refused({**_DEBIAN, _LOCAL: "launch+=bind:two\nbind-two-config=/home/ops/named.conf"})
    assert f"reads {_ZONES} here" in refused({_MAIN: _DEBIAN[_MAIN], _BIND: _DEBIAN[_BIND]})
    assert "reads /etc here" in refused({**_DEBIAN, _LOCAL: "bind-config=/etc"}), "a folder"
    relative = {**_DEBIAN, _LOCAL: "bind-config=etc/powerdns/named.conf"}
    assert "reads etc/powerdns/named.conf here, which is no absolute path" in refused(relative)


@pytest.mark.parametrize("path", [_MAIN, _LOCAL, "/var/lib/powerdns/supermaster.conf"])
def test_a_link_to_where_nothing_is_seen(path: str) -> None:
    assert f"reads {path} here" in refused(_DEBIAN, {path: "/home/ops/file"})


def test_a_second_bind_backend_has_settings_of_its_own() -> None:
    files = {**_DEBIAN, _LOCAL: "launch+=bind:two\nbind-two-config=/srv/zones", "/srv/zones": "zone a.test {};"}
    assert "serves by bind here (/srv/zones)" in refused(files)


@pytest.mark.parametrize("text", ["launch=", "include-dir=/etc/pdns", "include-dir="])
def test_where_our_settings_would_not_be_read_there_is_nothing_to_do(text: str) -> None:
    assert f"and not {FOLDER}" in refused({_MAIN: text})
