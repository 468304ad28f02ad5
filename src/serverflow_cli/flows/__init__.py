"""Use cases that span systems. They report events and return results; they never print."""
