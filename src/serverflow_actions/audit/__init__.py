"""The server's own record of what it did. Carried out by the runner itself (remote/core.py)."""
