"""What a signer is shown of a trust version."""

from __future__ import annotations

from dataclasses import replace

from serverflow_actions.kit.change import Change
from serverflow_cli.trust import chain, difference, trustfile
from serverflow_cli.trust.keys import fingerprint, new_private_key
from serverflow_cli.trust.trustfile import CommandKey, Grant, Trust

from .conftest import DAY, Fleet

EVERY = frozenset({"service.restart", "service.stop", "cron.add", "safe.confirm"})
WEB1, WEB2 = "5e" * 32, "6e" * 32
WORDS = difference.Words({WEB1: "web1", WEB2: "web2"}.__getitem__, EVERY)


def shown(before: Trust, **changes: object) -> list[Change]:
    return difference.changes(before, chain.successor(before, **changes), WORDS)


def test_a_number_alone_is_no_difference(fleet: Fleet) -> None:
    assert shown(fleet.trust) == []


def test_every_field_of_a_command_key_is_shown(fleet: Fleet) -> None:
    """A field that nobody sees is a field that an attacker may write."""
    ana, ci = fleet.trust.command
    changed = {
        "name": replace(ci, name="ci2"),
        "public_key": replace(ci, public_key=new_private_key("x").public_key),
        "expires": replace(ci, expires=ci.expires + DAY),
        "grants": replace(ci, grants=(replace(ci.grants[0], where={}),)),
        "not_before": replace(ci, not_before=ci.not_before + DAY),
        "ssh": replace(ci, ssh=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,)),
        "addresses": replace(ci, addresses=()),
        "seal": replace(ci, seal=trustfile.Seal("x25519:" + "A" * 43 + "=")),
        "everything": replace(ci, everything=True),
    }
    assert set(changed) == set(CommandKey.__dataclass_fields__)
    for field, key in changed.items():
        assert shown(fleet.trust, command=(ana, key)), field


def test_that_a_key_may_not_do_everything_is_told_where_it_could_before(fleet: Fleet) -> None:
    ana, ci = fleet.trust.command
    narrow, wide = (replace(ci, public_key=new_private_key("x").public_key, everything=may) for may in (False, True))
    assert "everything" not in shown(fleet.trust, command=(ana, ci, narrow))[0].fields
    assert shown(fleet.trust, command=(ana, ci, wide))[0].fields["everything"] == (None, True)
    assert shown(fleet.trust, command=(ana, replace(ci, everything=True)))[0].fields == {"everything": (False, True)}
    (lost,) = shown(chain.successor(fleet.trust, command=(ana, replace(ci, everything=True))), command=(ana, ci))
    assert lost.fields == {"everything": (True, False)}


def test_every_field_of_the_file_is_shown(fleet: Fleet) -> None:
    trust = fleet.trust
    more = replace(trust.root, keys=(*trust.root.keys, trustfile.RootKey("bob", fleet.bob.public_key)))
    assert shown(trust, expires=trust.expires + DAY)
    assert shown(trust, command=trust.command[:1])
    for role in ("root", "release"):
        assert shown(trust, **{role: more})
        assert shown(replace(trust, root=more, release=more), **{role: replace(more, threshold=2)})
        assert shown(replace(trust, root=more, release=more), **{role: replace(more, keys=more.keys[1:])})


def test_grants_are_told_by_what_they_add_and_take(fleet: Fleet) -> None:
    ana, ci = fleet.trust.command
    wider = Grant(("service.restart", "service.stop", "cron.add"), (WEB1, WEB2), {"app": "shop"})
    (change,) = shown(fleet.trust, command=(ana, replace(ci, grants=(wider,))))
    assert change.note == fingerprint(ci.public_key)
    assert change.fields == {
        "may now": (
            None,
            "cron.add, service.restart on web2 where app=shop; service.stop on web1, web2 where app=shop",
        )
    }
    (change,) = shown(fleet.trust, command=(ana, replace(ci, grants=())))
    assert change.fields == {"may no longer": (None, "cron.add, service.restart on web1 where app=shop")}


def test_many_actions_are_told_in_few_words() -> None:
    def text(*actions: str) -> str:
        return difference.grants_text([Grant(actions, (WEB1,))], WORDS)

    assert text(*EVERY) == "every action on web1"
    assert text("service.restart", "service.stop") == "service.* on web1"
    assert text("service.restart", "gone.walk", "gone.run") == "gone.{run,walk}, service.restart on web1"


def test_nothing_hides_behind_few_words() -> None:
    """A grant for servers to come, and actions that this sf does not know."""
    assert difference.grants_text([Grant(("cron.add",))], WORDS) == "cron.add on no server yet"
    unknown = [Grant((*EVERY, "new.wipe"), (WEB1,))]
    assert difference.grants_text(unknown, WORDS) == "every action, new.wipe on web1"
    unknown = [Grant(("service.restart", "service.stop", "service.wipe"), (WEB1,))]
    assert difference.grants_text(unknown, WORDS) == "service.{restart,stop,wipe} on web1"


def test_the_order_of_keys_is_shown(fleet: Fleet) -> None:
    ana, ci = fleet.trust.command
    assert shown(fleet.trust, command=(ci, ana))
