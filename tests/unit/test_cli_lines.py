"""Every command's help and every command's complaint about a wrong line."""

from __future__ import annotations

import io
import json

import pytest

from serverflow_actions import registry
from serverflow_actions.kit.spec import Action, param
from serverflow_cli.cli.generate import commands
from serverflow_cli.cli.generated import action_function
from serverflow_cli.cli.options import GlobalOptions, take_global_options
from serverflow_cli.cli.session import Session
from serverflow_cli.cli.tree import build
from serverflow_cli.main import run
from serverflow_cli.ui.terminal import Terminal

PATHS = [entry[0] for entry in commands()]


def line(text: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a line that reaches no flow."""
    options, rest = take_global_options(text.split())
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    code = run(rest, Session(options, terminal, None))  # type: ignore[arg-type]  # no flow is reached
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", PATHS)
def test_help_shows_usage_summary_and_global_options(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert line(f"{path} --help")[0] == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: sf {path} ")
    assert "--json" in text
    assert "None" not in text
    assert text.splitlines()[2].strip(), "a summary"


@pytest.mark.parametrize("path", PATHS)
def test_an_option_that_does_not_exist_is_one_line_with_a_way_out(path: str) -> None:
    code, out, err = line(f"{path} --frobnicate")
    assert (code, out) == (2, "")
    assert err.startswith(f"sf: error: `sf {path}` has no option --frobnicate\nsf: hint: ")


@pytest.mark.parametrize("path", PATHS)
def test_words_too_many_or_too_few_are_usage_errors(path: str) -> None:
    command = next(entry[1] for entry in commands() if entry[0] == path)
    takes_any = any(p.nargs == -1 for p in command.params if p.param_type_name == "argument")
    if any(p.required for p in command.params):
        code, _, err = line(path)
        assert code == 2
        assert " is missing\n" in err
    if not takes_any:
        code, _, err = line(f"{path} a b c d e --on all")
        assert code == 2
        assert err.startswith("sf: error: ")


def test_the_nearest_command_and_option_are_offered() -> None:
    assert "did you mean `sf service restart`?" in line("service retsart nginx")[2]
    assert "did you mean `sf service`?" in line("servcie list")[2]
    assert "did you mean --on?" in line("service list --onn web1")[2]
    assert "did you mean service.restart?" in line("action show service.restrat")[2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("service restart nginx", "--on SELECTOR is missing"),
        ("service restart --on web1", "UNIT is missing"),
        ("service restart nginx --on web1 --yes --timeout 5", "--timeout: '5' is not a duration"),
        ("service logs nginx --on web1 --lines x", "lines: 'x' is not a whole number"),
        ("action run service.restart unit --on web1", "'unit' is not KEY=VALUE"),
        ("action run service.restart unti=nginx --on web1", "service.restart has no parameter 'unti'"),
        ("action run service.restart unit=a unit=b --on web1", "unit is given more than once"),
        ("action list nowhere", "no area has the name 'nowhere'"),
        ("op status 123", "ID: '123' is not an operation id"),
        ("op list --limit many", "--limit: 'many' is not a count"),
        ("server add Web1 root@host", "NAME: 'Web1' is not a name"),
        ("server add web1 host --port 0", "--port: 0 is not a port"),
        ("server add web1 host --role post", "--role 'post' is none of app, db, backup, dns, mail"),
        ("server list --fleet", "--fleet PATH: the path is missing"),
        ("--fleet", "--fleet PATH: the path is missing"),
    ],
)
def test_wrong_values_are_named(text: str, sentence: str) -> None:
    code, out, err = line(text)
    assert (code, out) == (2, "")
    assert err.startswith(f"sf: error: {sentence}")


def test_an_area_without_a_command_shows_its_help_as_an_error() -> None:
    code, out, err = line("service")
    assert (code, out) == (2, "")
    assert err.startswith("Usage: sf service COMMAND")
    assert json.loads(line("service --json")[1])["error"]["code"] == "usage"


def test_help_of_the_top_is_grouped() -> None:
    code, text, _ = line("--help")
    assert code == 0
    groups = [text.index(group) for group in ("Fleet:", "Servers:", "Trust and history:", "Global options:")]
    assert groups == sorted(groups)


def test_every_action_can_be_described() -> None:
    for name in registry.names():
        code, out, _ = line(f"action show {name} --json")
        assert code == 0
        assert json.loads(out)["data"]["action"] == name


def test_global_options_are_taken_off_the_line_until_two_dashes() -> None:
    options, rest = take_global_options(["op", "--fleet=a", "-v", "list", "--fleet", "b", "--", "--json"])
    assert options == GlobalOptions(fleet="b", verbose=True, after_dashes=1)
    assert rest == ["op", "list", "--", "--json"]


SECRET = Action(
    "vault.put",
    "Put",
    "change",
    print,
    params=(param("name", "name", "A name", positional=True), param("token", "text", "A token", secret=True)),
)


def test_a_secret_has_no_option_that_takes_it_on_the_command_line() -> None:
    command = build(action_function(SECRET), "put")
    options = [name for p in command.params for name in p.opts]
    assert "--token" not in options
    assert "--token-stdin" in options


def test_the_generic_form_refuses_secrets_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda _name: SECRET)
    code, _, err = line("action run vault.put name=a token=hunter2 --on web1")
    assert code == 2
    assert "may not stand on the command line" in err
    assert "hunter2" not in err


def test_a_parameter_may_not_shadow_an_option_of_every_command() -> None:
    clash = Action("vault.put", "Put", "change", print, params=(param("lock-wait", "text", "x"),))
    with pytest.raises(TypeError, match="lock-wait"):
        action_function(clash)
