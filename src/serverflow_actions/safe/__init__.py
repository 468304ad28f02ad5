"""Changes that undo themselves unless they are confirmed. Carried out by the runner itself (remote/core.py)."""
