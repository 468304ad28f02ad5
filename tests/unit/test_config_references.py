from pathlib import Path

from serverflow_cli.config.load import parse
from serverflow_cli.config.references import references

EXAMPLE = (Path(__file__).parent / "fleet.example.toml").read_text()


def test_where_the_example_refers_to_secrets() -> None:
    found = references(parse(EXAMPLE))
    assert found["slack_ops"] == ["notify.channels.ops.url"]
    assert found["cf_token"] == ["dns.providers.cf.token"]


def test_a_condition_named_secret_is_none() -> None:
    text = 'schema = 1\n[[grants]]\nto = "ci"\nallow = ["app.*"]\non = "all"\nwhere = { secret = "x" }\n'
    text += '[servers.web1]\nhost = "203.0.113.7"\n'
    assert references(parse(text)) == {}


def test_one_stanza_alone() -> None:
    assert references(parse(EXAMPLE).notify) == {"slack_ops": ["channels.ops.url"]}
