from serverflow_actions.kit.change import Change
from serverflow_cli.plan.diff import PlanLine, Unmanaged, summarise, unmanaged
from serverflow_cli.plan.resource import Resource

MAKE = Change("create", "file", "/etc/redis/cache.conf")
START = Change("run", "unit", "redis-cache.service")


def test_a_summary_counts_and_keeps_the_order() -> None:
    replies = {
        "db1": {"redis.cache": [MAKE, START]},
        "web1": {"app.shop": [Change("update", "file", "/x"), Change("delete", "file", "/y")], "user.deploy": []},
    }
    summary = summarise(replies)
    assert (summary.create, summary.update, summary.delete, summary.run, summary.unchanged) == (1, 1, 1, 1, 1)
    assert summary.lines[:2] == (PlanLine("db1", "redis.cache", MAKE), PlanLine("db1", "redis.cache", START))
    assert not summary.empty


def test_nothing_to_do() -> None:
    assert summarise({"web1": {"app.shop": []}}).empty
    assert summarise({}).empty


def test_what_was_applied_and_is_gone_from_the_file() -> None:
    wanted = [
        Resource("web1", "app.shop", "app.create", {}, "apps"),
        Resource("web2", "app.blog", "app.create", {}, "apps"),
    ]
    applied = {"web1": ["app.shop", "app.blog", "app.a"], "web2": ["app.blog"], "old": ["user.u"]}
    assert unmanaged(applied, wanted) == [
        Unmanaged("web1", "app.a"),
        Unmanaged("web1", "app.blog"),
        Unmanaged("old", "user.u"),
    ]
