import copy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.config.edit import Editor, edit, take_back
from serverflow_cli.config.folder import FleetFolder
from serverflow_cli.config.load import load
from serverflow_cli.errors import ConfigError, UsageError

EXAMPLE = Path(__file__).with_name("fleet.example.toml").read_text()
REDIS = {"on": "web1", "max_memory": "1GiB"}


@pytest.fixture
def folder(tmp_path: Path) -> FleetFolder:
    (tmp_path / "fleet.toml").write_text(EXAMPLE)
    return FleetFolder(tmp_path)


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """The lines that went and the lines that came; all others stand as they were, in their order."""
    import difflib

    diff = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    return [line[2:] for line in diff if line[0] == "-"], [line[2:] for line in diff if line[0] == "+"]


def test_set_touches_only_what_differs() -> None:
    editor = Editor(EXAMPLE)
    editor.set_entry("servers", "db1", {"port": 22, "host": "10.0.0.8", "tags": ("eu",)})
    assert changed(EXAMPLE, editor.text) == (["port = 2222"], ["port = 22", 'tags = ["eu"]'])


def test_set_keeps_a_comment_behind_the_value() -> None:
    editor = Editor(EXAMPLE)
    editor.set_entry("routes", "shop", {"host": "www.acme.app"})
    assert 'host = "www.acme.app"             # record and certificate follow' in editor.text


def test_a_new_entry_follows_its_siblings_and_takes_no_comment_away() -> None:
    text = 'schema = 1\n\n[servers.a]\nhost = "a"\n# spare: b\n\n# The people.\n[operators.ana]\n'
    editor = Editor(text)
    editor.set_entry("servers", "b", {"host": "b", "roles": ["app"]})
    assert editor.text == text.replace("# spare: b\n", '# spare: b\n\n[servers.b]\nhost = "b"\nroles = ["app"]\n')


def test_a_new_table_goes_to_the_end() -> None:
    editor = Editor("schema = 1")
    editor.set_entry("dns.zones", "acme.app", {"provider": "cf", "complete": True})
    assert editor.text == 'schema = 1\n\n[dns.zones."acme.app"]\nprovider = "cf"\ncomplete = true\n'


def test_nested_values_are_written_inline() -> None:
    editor = Editor(EXAMPLE)
    editor.set_entry("notify.channels", "two", {"provider": "slack", "url": {"secret": 'a"b'}})
    assert 'url = { secret = "a\\"b" }\n' in editor.text


def test_none_takes_a_key_out() -> None:
    editor = Editor(EXAMPLE)
    editor.set_entry("servers", "db1", {"jump": None, "tags": None})
    gone, came = changed(EXAMPLE, editor.text)
    assert (len(gone), came) == (1, []) and gone[0].startswith("jump")


def test_remove_keeps_the_comments_around() -> None:
    text = "[a.x]\nv = 1\n# x's own\n\n# about y\n[a.y]\nv = 2\n\n[a.x.sub]\nv = 3\n\n# end\n"
    editor = Editor(text)
    editor.remove_entry("a", "x")
    assert editor.text == "\n# about y\n[a.y]\nv = 2\n\n# end\n".lstrip("\n")
    editor.remove_entry("a", "x")
    assert tomllib.loads(editor.text) == {"a": {"y": {"v": 2}}}


def test_adding_and_removing_again_restores_every_byte() -> None:
    for table in ("redis", "brand-new"):
        editor = Editor(EXAMPLE)
        editor.set_entry(table, "b", REDIS)
        assert editor.text != EXAMPLE
        editor.remove_entry(table, "b")
        assert editor.text == EXAMPLE


def test_a_renamed_server_is_followed_by_selectors() -> None:
    text = EXAMPLE.replace('allow_from = "@app"', 'allow_from = "@app, web1,!web1,web1*,web10"')
    editor = Editor(text)
    editor.rename_entry("servers", "web1", "front")
    gone, came = changed(text, editor.text)
    (served,) = (line for line in text.splitlines() if line.startswith("nameservers"))
    on = 'on = "web1"'
    assert gone == ["[servers.web1]", on, 'allow_from = "@app, web1,!web1,web1*,web10"', served, on, on, on]
    on, served = 'on = "front"', served.replace('"web1"', '"front"')
    assert came == ["[servers.front]", on, 'allow_from = "@app, front,!front,web1*,web10"', served, on, on, on]


@pytest.mark.parametrize(
    ("table", "old", "new", "count"),
    [
        ("apps", "shop", "store", 4),
        ("notify.channels", "ops", "alerts", 2),
        ("dns.providers", "cf", "cloud", 2),
        ("operators", "ana", "bea", 1),
    ],
)
def test_references_follow_a_rename(folder: FleetFolder, table: str, old: str, new: str, count: int) -> None:
    with edit(folder) as editor:
        editor.rename_entry(table, old, new)
    gone, came = changed(EXAMPLE, folder.fleet_toml.read_text())
    assert len(gone) == len(came) == count
    load(folder)


def test_rename_refuses_what_it_cannot_do() -> None:
    editor = Editor(EXAMPLE)
    with pytest.raises(UsageError, match=r"no servers\.web9"):
        editor.rename_entry("servers", "web9", "web8")
    with pytest.raises(UsageError, match=r"is a servers\.db1 already"):
        editor.rename_entry("servers", "web1", "db1")
    assert editor.text == EXAMPLE


def test_lists_keep_their_layout_and_comments() -> None:
    text = "[a.b]\nl = [\n  'x', # one\n  'y', # two\n]\n"
    editor = Editor(text)
    editor.add_to_list("a", "b", "l", "z")
    editor.remove_from_list("a", "b", "l", "x")
    assert tomllib.loads(editor.text) == {"a": {"b": {"l": ["y", "z"]}}}
    assert "  'y', # two\n" in editor.text
    editor.add_to_list("a", "b", "m", "new")
    assert 'm = ["new"]\n' in editor.text


def test_idempotent_edits_leave_the_file_alone(folder: FleetFolder) -> None:
    before = folder.fleet_toml.stat()
    with edit(folder) as editor:
        editor.set_entry("servers", "db1", {"port": 2222, "roles": ("db", "dns")})
        editor.set_entry("routes", "shop", {"to": {"app": "shop"}})
        editor.add_to_list("servers", "web1", "packages", "htop")
        editor.remove_from_list("servers", "web1", "packages", "vim")
        editor.remove_entry("servers", "web9")
        editor.rename_entry("servers", "web1", "web1")
    after = folder.fleet_toml.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_crlf_and_byte_order_mark_stay(folder: FleetFolder, mark: str) -> None:
    folder.fleet_toml.write_bytes((mark + EXAMPLE).replace("\n", "\r\n").encode())
    with edit(folder) as editor:
        editor.set_entry("redis", "second", REDIS)
    data = folder.fleet_toml.read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") == EXAMPLE.count("\n") + 4
    assert data.decode().startswith(mark + "#")
    assert "second" in load(folder).redis


def test_mixed_line_ends_stay_where_they_are() -> None:
    text = "schema = 1\r\n[a.b]\nx = 1\r\n"
    editor = Editor(text)
    editor.set_entry("a", "b", {"y": 2})
    assert editor.text == text + "y = 2\n"


def test_nothing_is_written_when_the_result_would_not_load(folder: FleetFolder) -> None:
    with pytest.raises(ConfigError, match=r"redis\.bad\.max_memory"), edit(folder) as editor:
        editor.set_entry("redis", "bad", {"on": "web1", "max_memory": "1"})
    with pytest.raises(ConfigError, match="web1"), edit(folder) as editor:
        editor.remove_entry("servers", "web1")  # others still name it
    with pytest.raises(ZeroDivisionError), edit(folder) as editor:
        editor.set_entry("redis", "good", REDIS)
        _ = 1 / 0
    assert folder.fleet_toml.read_text() == EXAMPLE
    assert sorted(path.name for path in folder.path.iterdir()) == [".sf.lock", "fleet.toml"]


def test_an_edit_is_taken_back_unless_somebody_else_has_edited(folder: FleetFolder) -> None:
    before = folder.fleet_toml.read_text()
    with edit(folder) as editor:
        editor.set_entry("users", "bob", {"on": "all"})
        after = editor.text
    assert folder.fleet_toml.read_text() == after
    assert take_back(folder, before, after)
    assert folder.fleet_toml.read_text() == before
    assert not take_back(folder, "schema = 1\n", after)
    assert folder.fleet_toml.read_text() == before


def test_a_file_that_does_not_load_is_not_edited(folder: FleetFolder) -> None:
    folder.fleet_toml.write_text(EXAMPLE + "[servers.broken]\n")
    with pytest.raises(ConfigError, match=r"servers\.broken\.host: missing"), edit(folder):
        pytest.fail("the block must not run")


def test_the_mode_stays(folder: FleetFolder) -> None:
    folder.fleet_toml.chmod(0o640)
    with edit(folder) as editor:
        editor.set_entry("redis", "second", REDIS)
    assert folder.fleet_toml.stat().st_mode & 0o777 == 0o640


def test_two_processes_at_once_both_land(folder: FleetFolder) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from serverflow_cli.config.edit import edit; from serverflow_cli.config.folder import FleetFolder\n"
        "for n in range(8):\n"
        "    with edit(FleetFolder(Path(sys.argv[1])), 60) as editor:\n"
        "        editor.set_entry('servers', f'{sys.argv[2]}{n}', {'host': '203.0.113.9'})\n"
        "        editor.add_to_list('servers', 'web1', 'tags', f'{sys.argv[2]}{n}')\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(folder.path), name]) for name in ("left", "right")]
    assert [process.wait() for process in both] == [0, 0]
    fleet = load(folder)
    expected = {f"{name}{n}" for name in ("left", "right") for n in range(8)}
    assert set(fleet.servers) == {"web1", "db1"} | expected
    assert set(fleet.servers["web1"].tags) == {"prod"} | expected


# --- Any edit of any document means the same as the edit of a dictionary, and loses no comment outside of the entry.

NAMES = st.sampled_from(["a", "b", "c-1", "d.e"])
FIELDS = st.sampled_from(["k", "l", "odd key"])
VALUES = st.one_of(
    st.integers(-5, 5),
    st.booleans(),
    st.text(max_size=4),
    st.lists(st.sampled_from(["x", "y"]), max_size=2),
    st.just({"in": "side"}),
)
ENTRIES = st.dictionaries(NAMES, st.dictionaries(FIELDS, VALUES, min_size=1, max_size=3), min_size=1, max_size=3)
FORMS = ("headers", "table of inline tables", "dotted", "inline at the root", "dotted at the root")


def quoted(name: str) -> str:
    return name if name.replace("-", "").isalnum() else f'"{name}"'


def written(value: Any) -> str:
    import tomlkit

    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(key)} = {written(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return str(tomlkit.item(value).as_string())


def document(entries: dict[str, dict[str, Any]], form: str) -> str:
    """The same table `t` in another form, with comments and other tables around it."""
    head, lines = ["# top", "other = 1 # one"], []
    if form == "inline at the root":
        head.append(f"t = {written(entries)} # t")
    elif form == "dotted at the root":
        head += [
            f"t.{quoted(name)}.{quoted(key)} = {written(v)} # {name}"
            for name, entry in entries.items()
            for key, v in entry.items()
        ]
    elif form == "headers":
        for name, entry in entries.items():
            lines += [
                "",
                f"# above {name}",
                f"[t.{quoted(name)}]",
                *(f"  {quoted(key)} = {written(v)} # in" for key, v in entry.items()),
            ]
            lines += ["", f"[between.{quoted(name)}]", "x = 1", "# glued"]
    else:
        lines += ["", "[t]"]
        for name, entry in entries.items():
            pairs = entry.items()
            dotted = [f"{quoted(name)}.{quoted(key)} = {written(v)} # dotted" for key, v in pairs]
            lines += dotted if form == "dotted" else [f"{quoted(name)} = {written(entry)} # inline"]
    return "\n".join([*head, *lines, "", "# before the last", "[last]", "z = 1", "# end"])


def operate(editor: Editor, expected: dict[str, Any], data: st.DataObject) -> set[str]:
    """One random edit, on the text and on the dictionary; which entries may lose a comment."""
    name, key = data.draw(NAMES), data.draw(FIELDS)
    kind = data.draw(st.sampled_from(["set", "remove", "rename", "add", "take"]))
    table = expected.setdefault("t", {})
    present = table.get(name, {}).get(key)
    if kind == "set":
        values = data.draw(st.dictionaries(FIELDS, VALUES, max_size=2))
        editor.set_entry("t", name, values)
        table.setdefault(name, {}).update(values)
    elif kind == "remove":
        editor.remove_entry("t", name)
        table.pop(name, None)
        return {name}
    elif kind == "rename" and name in table and "new" not in table:
        editor.rename_entry("t", name, "new")
        table["new"] = table.pop(name)
    elif kind == "add" and (present is None or isinstance(present, list)):
        editor.add_to_list("t", name, key, "x")
        values = table.setdefault(name, {}).setdefault(key, [])
        values += ["x"] if "x" not in values else []
    elif kind == "take" and isinstance(present, list):
        editor.remove_from_list("t", name, key, "x")
        present[:] = (
            []
            if present == ["x"]
            else present[1:]
            if present[:1] == ["x"]
            else present[:1] + [v for v in present[1:] if v != "x"]
        )
    return set()


@given(ENTRIES, st.sampled_from(FORMS), st.data())
def test_edits_mean_what_they_say(entries: dict[str, dict[str, Any]], form: str, data: st.DataObject) -> None:
    text = document(entries, form)
    editor, expected, removed = Editor(text), copy.deepcopy(tomllib.loads(text)), set[str]()
    for _ in range(data.draw(st.integers(1, 3))):
        removed |= operate(editor, expected, data)
        found = tomllib.loads(editor.text)
        # An empty table has no place in the text of some forms.
        assert {**found, "t": found.get("t", {})} == {**expected, "t": expected.get("t", {})}
    for line in text.splitlines():
        if line.startswith("#"):
            assert line in editor.text.splitlines()


GRANTS = """\
schema = 1

# what CI may do
[[grants]]
to = "ci"
allow = ["a.b"]  # one
on = "all"

[[grants]]
to = "bob"
allow = ["*"]
on = "all"

# the cache
[redis.cache]
on = "web1"
"""


def test_an_element_is_added_after_its_siblings_and_once() -> None:
    editor = Editor(GRANTS)
    for _ in range(2):
        editor.append_element("grants", {"to": "ci", "allow": ["c.d"], "on": "@app", "where": {"unit": "cron"}})
    gone, come = changed(GRANTS, editor.text)
    assert [line for line in gone if line] == []
    assert [line for line in come if line] == [
        "[[grants]]",
        'to = "ci"',
        'allow = ["c.d"]',
        'on = "@app"',
        'where = { unit = "cron" }',
    ]
    assert editor.text.index('to = "bob"') < editor.text.index('"c.d"') < editor.text.index("# the cache")


def test_elements_that_match_go_and_others_stay_as_they_are() -> None:
    editor = Editor(GRANTS)
    editor.append_element("grants", {"to": "ci", "allow": ["c.d"], "on": "all"})
    editor.remove_elements("grants", lambda element: element["to"] == "ci")
    assert [element["to"] for element in tomllib.loads(editor.text)["grants"]] == ["bob"]
    assert "# the cache\n[redis.cache]" in editor.text
    editor.remove_elements("grants", lambda _: True)
    assert "grants" not in tomllib.loads(editor.text)
    editor.remove_elements("grants", lambda _: True)


def test_keys_of_elements_are_set_where_they_match() -> None:
    editor = Editor(GRANTS)
    editor.update_elements("grants", lambda element: element["to"] == "ci", {"on": "@db", "where": {"x": "y"}})
    assert changed(GRANTS, editor.text) == (['on = "all"'], ['on = "@db"', 'where = { x = "y" }'])


def test_inline_elements_are_edited_inline() -> None:
    editor = Editor('schema = 1\ngrants = [{ to = "ci", allow = ["*"], on = "all" }]\n')
    editor.append_element("grants", {"to": "bob", "allow": ["*"], "on": "all"})
    editor.remove_elements("grants", lambda element: element["to"] == "ci")
    editor.update_elements("grants", lambda element: element["to"] == "bob", {"on": "web1"})
    assert tomllib.loads(editor.text)["grants"] == [{"to": "bob", "allow": ["*"], "on": "web1"}]
    assert editor.text.splitlines()[1:] == [
        "grants = [",
        '    { to = "bob", allow = ["*"], on = "web1" },',
        "]",
    ]


@pytest.mark.parametrize(
    "before",
    [
        '[dns.zones."a.b"]\nprovider = "cf"\n[x]\n',
        '[dns.zones."a.b"]\nprovider = "cf"\nrecords = []\n[x]\n',
        '[dns.zones."a.b"]\nprovider = "cf"\n[[dns.zones."a.b".records]]\nname = "@"\ntype = "A"\n[x]\n',
    ],
)
def test_a_list_in_an_entry_whose_name_has_a_dot(before: str) -> None:
    editor, path = Editor(before), ("dns", "zones", "a.b", "records")
    editor.append_element(path, {"name": "www", "type": "A", "ttl": "1h"})
    editor.update_elements(path, lambda element: element["name"] == "www", {"ttl": None, "proxied": True})
    editor.remove_elements(path, lambda element: element["name"] == "@")
    found = tomllib.loads(editor.text)
    assert found["dns"]["zones"]["a.b"]["records"] == [{"name": "www", "type": "A", "proxied": True}]
    assert found["x"] == {}


def test_many_elements_are_one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone is imported with thousands of records, and the whole text is read for each edit."""
    edits = 0
    really = Editor._splice

    def splice(self: Editor, *words: Any) -> None:
        nonlocal edits
        edits += 1
        really(self, *words)

    monkeypatch.setattr(Editor, "_splice", splice)
    editor, path = Editor('[dns.zones."a.b"]\nprovider = "cf"\n'), ("dns", "zones", "a.b", "records")
    many = [{"name": f"n{number}", "type": "A"} for number in range(50)]
    editor.append_elements(path, [*many, many[0]])
    assert tomllib.loads(editor.text)["dns"]["zones"]["a.b"]["records"][:50] == many
    assert edits < 4
