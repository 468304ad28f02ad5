"""Many servers at once: one that fails leaves the others alone, and what was interrupted is not told as done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serverflow_cli.model.result import Reply
from serverflow_cli.rpc.fanout import on_all
from serverflow_cli.rpc.hello import Link


def link(name: str) -> Link:
    return cast(Link, SimpleNamespace(name=name))


def test_a_bug_on_one_server_costs_the_others_nothing() -> None:
    async def work(at: Link) -> Reply:
        if at.name == "web1":
            raise RuntimeError("a bug")
        return Reply("", "done")

    heard: list[Mapping[str, Any]] = []
    first, second = asyncio.run(on_all([link("web1"), link("web2")], work, heard.append))
    assert first.error and first.error.code == "internal" and second.reply and second.reply.outcome == "done"
    assert [event["server"] for event in heard if event["t"] == "done"] == ["web1", "web2"]


def test_what_is_cancelled_is_not_done() -> None:
    async def work(at: Link) -> Reply:
        await asyncio.sleep(60)
        return Reply("", "done")

    heard: list[Mapping[str, Any]] = []

    async def interrupted() -> None:
        running = asyncio.create_task(on_all([link("web1")], work, heard.append))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(interrupted())
    assert [event["t"] for event in heard] == ["connect"]
