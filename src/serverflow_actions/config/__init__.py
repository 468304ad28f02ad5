"""Configuration files of the system, of known kinds and with content that is checked."""
