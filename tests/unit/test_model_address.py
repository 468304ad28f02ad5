import pytest

from serverflow_cli.model.address import Jump, host, is_ip, parse_jump


@pytest.mark.parametrize("good", ["203.0.113.7", "2001:db8::7", "web1.acme.app", "bastion", "7.example"])
def test_hosts(good: str) -> None:
    assert host(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "-oProxyCommand=id",
        "999.1.1.1",
        "1.2.3",
        "a b",
        "Web1",
        "fe80::1%eth0",
        "a_b",
        "10.0.0.0/8",
        "a..b",
        "user@host",
    ],
)
def test_what_is_no_host(bad: str) -> None:
    with pytest.raises(ValueError):
        host(bad)


@pytest.mark.parametrize(
    ("text", "jump"),
    [
        ("jump@bastion.acme.app", Jump("jump", "bastion.acme.app", 22)),
        ("bastion:2222", Jump("", "bastion", 2222)),
        ("jump@[2001:db8::1]:2222", Jump("jump", "2001:db8::1", 2222)),
        ("[2001:db8::1]", Jump("", "2001:db8::1", 22)),
    ],
)
def test_jump_hosts(text: str, jump: Jump) -> None:
    assert parse_jump(text) == jump


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "@bastion",
        "serverflow@bastion",
        "jump@bastion:",
        "jump@bastion:0",
        "2001:db8::1",
        "[bastion]",
        "[::1]22",
        "-J@bastion",
        "a@b@c",
    ],
)
def test_what_is_no_jump_host(bad: str) -> None:
    with pytest.raises(ValueError):
        parse_jump(bad)


def test_ip_literals() -> None:
    assert is_ip("10.0.0.8") and is_ip("::1")
    assert not is_ip("10.0.0.0/8") and not is_ip("web1") and not is_ip("fe80::1%eth0")
