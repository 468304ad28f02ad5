"""Redis instances, each with a port, a memory limit and a password of its own."""
