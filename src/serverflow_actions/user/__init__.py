"""Accounts of people, and the keys that open them."""
