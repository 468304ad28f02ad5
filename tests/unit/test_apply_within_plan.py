"""What a fresh forecast may do beyond the approved one, after a change of our own (flows/apply.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_actions.kit.change import Change
from serverflow_cli.errors import PlanChanged
from serverflow_cli.flows.apply import _within_plan
from serverflow_cli.flows.rounds import Planned
from serverflow_cli.model.result import Reply
from serverflow_cli.plan.resource import Resource

CRONTAB = Change("create", "file", "/etc/cron.d/serverflow")
LINK = cast(Any, SimpleNamespace(name="web1"))


def planned(*changes: Change) -> Planned:
    return Planned(Resource("web1", "cron.b", "cron.command", {}, "cron"), Reply("", "done", changes), "")


def fresh(*changes: Change) -> Reply:
    return Reply("", "done", changes, plan_sha256="ab")


def test_what_one_before_has_created_may_be_updated() -> None:
    update = CRONTAB._replace(verb="update")
    assert _within_plan(planned(CRONTAB), fresh(update), [CRONTAB], LINK) == "ab"


@pytest.mark.parametrize("done", [[], [CRONTAB._replace(name="/etc/other")], [CRONTAB._replace(verb="update")]])
def test_nothing_else_may(done: list[Change]) -> None:
    with pytest.raises(PlanChanged, match=r"would now also update file /etc/cron\.d/serverflow"):
        _within_plan(planned(CRONTAB), fresh(CRONTAB._replace(verb="update")), done, LINK)
    with pytest.raises(PlanChanged):
        _within_plan(planned(), fresh(CRONTAB._replace(verb="update")), [CRONTAB], LINK)
