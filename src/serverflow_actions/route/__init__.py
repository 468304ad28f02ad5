"""Routes: nginx takes requests for host names and leads them to apps, or to folders with files."""
