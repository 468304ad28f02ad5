"""The primitives that actions are made of. Only they know how to check, diff and apply; see engine.Step.

`check` is quiet when all is right, and does not fail because an earlier step of the same plan was not applied yet.
"""

from .authorized_keys import AuthorizedKeys
from .directory import Directory, EmptyDirectory
from .file import File
from .line import Line
from .machine import Hostname, Reboot, TimeZone
from .package import Package, PackageLists, Upgrade
from .reload import Reload
from .run import Run
from .service import Service, UnitVerb
from .timer import Timer
from .user import User
from .watch import WatchUnit

__all__ = [
    "AuthorizedKeys",
    "Directory",
    "EmptyDirectory",
    "File",
    "Hostname",
    "Line",
    "Package",
    "PackageLists",
    "Reboot",
    "Reload",
    "Run",
    "Service",
    "TimeZone",
    "Timer",
    "UnitVerb",
    "Upgrade",
    "User",
    "WatchUnit",
]
