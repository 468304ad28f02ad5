"""systemd services: state, start and stop, logs."""
