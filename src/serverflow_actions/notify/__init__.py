"""Alerts: the channels by which this server tells what went wrong."""
