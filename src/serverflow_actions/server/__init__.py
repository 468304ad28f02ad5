"""This server as a member of the fleet. Carried out by the runner itself (remote/core.py)."""
