"""Apps: the user that one runs as and the folders that are its own."""
