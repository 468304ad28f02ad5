"""The machine itself: facts, updates, reboot, name and time zone."""
