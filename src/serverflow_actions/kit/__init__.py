"""What actions are written with."""

from .change import Change
from .engine import Secret, Steps
from .host import Host, HostError, Probe
from .refused import Refused
from .spec import Action, Params, action, param

__all__ = ["Action", "Change", "Host", "HostError", "Params", "Probe", "Refused", "Secret", "Steps", "action", "param"]
