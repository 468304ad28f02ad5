"""What was last applied for each resource. Carried out by the runner itself (remote/core.py)."""
