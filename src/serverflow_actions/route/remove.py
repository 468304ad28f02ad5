"""Take a route away."""

from __future__ import annotations

from ..kit import Params, Probe, Steps, action
from ..kit.steps import File
from . import _common
from ._files import FOLDER, NAME, SHARED, conf, page, require_ours, routes, users
from ._nginx import UNIT, nginx_of
from ._reading import read
from ._site import Rereading, Site


@action(
    "route.remove",
    "Remove a route; its certificate and its log stay",
    kind="change",
    timeout=120,
    writes=(FOLDER,),
    units=(UNIT,),
    destructive=True,
    resource="route.{name}",
    params=[NAME],
)
def remove(params: Params, probe: Probe) -> Steps:
    name = params.name
    require_ours(probe, conf(name))
    left = [settings for other, settings in sorted(routes(probe).items()) if other != name]
    file, shared = File(conf(name), absent=True), File(SHARED, absent=True)
    if left:
        shared = File(SHARED, _common.render(nginx_of(probe), read(probe), left))
    due = any(each.check(probe) for each in (file, shared))
    site = Site()
    # First what refers to the others.
    yield site.file(file)
    yield site.file(File(users(name), absent=True, secret=True))
    yield site.file(File(page(name), absent=True))
    yield site.file(shared)
    yield Rereading(site, due)
