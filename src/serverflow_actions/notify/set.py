"""Put a channel for alerts on this server, or bring it up to date."""

from __future__ import annotations

import json

from ..kit import Params, Probe, Steps, action, param
from ..kit.steps import File
from ..kit.watch import TIMER
from ..kit.watching import CHANNELS, watch
from ._shared import NAME, PORTS, PROVIDERS, path, settings


@action(
    "notify.set",
    "Send alerts of this server through a channel",
    kind="change",
    writes=(CHANNELS,),
    units=(TIMER,),
    host_verbs=("watch-unit",),
    resource="notify.{name}",
    params=[
        NAME,
        param("provider", "text", "Who takes them: Slack, a webhook, a mail server or Resend", choices=(*PROVIDERS,)),
        param("server", "label", "What this server is called in them"),
        param(
            "rules",
            "eventrule",
            "Which events, from which severity on, as `cron.* warning`; all errors when left out",
            default=("*",),
            many=True,
        ),
        param("url", "text", "slack and webhook: where they are posted to", default="", secret=True),
        param("secret", "text", "webhook: what they are signed with, whsec_…", default="", secret=True),
        param("token", "text", "resend: the API key", default="", secret=True),
        param("host", "text", "smtp: the mail server", default=""),
        param("port", "port", "smtp: its port; 587, 465 or 25 by `security` when left out", default=0),
        param(
            "security",
            "text",
            "smtp: how it is encrypted; starttls when left out, none for this machine's own server only",
            default="",
            choices=(*PORTS,),
        ),
        param("username", "text", "smtp: who logs in", default="", secret=True),
        # A password may begin with a dash, and is no argument of anything.
        param("password", "document", "smtp: the password of the login", default="", secret=True),
        param("sender", "text", "smtp and resend: the sender's mail address", default=""),
        param("to", "text", "smtp and resend: mail address of a recipient", default=(), many=True),
    ],
)
def set_channel(params: Params, _: Probe) -> Steps:
    channel = {
        "v": 1,
        "name": params.name,
        "provider": params.provider,
        "server": params.server,
        "rules": sorted(set(params.rules)),
        "settings": settings(params),
    }
    yield File(path(params.name), json.dumps(channel, sort_keys=True) + "\n", 0o600, secret=True)
    yield from watch()
    return {"channel": params.name, "rules": channel["rules"]}
