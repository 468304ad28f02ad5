"""Debian packages."""
