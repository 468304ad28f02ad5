"""ServerFlow: the operator's side of `sf`."""

__version__ = "0.1.0"
