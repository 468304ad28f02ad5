"""One signed action on one server, from request to verified receipt; and the same on many at once."""
