"""SSH: connections with pinned host keys, and frames over them. Knows nothing of what the frames mean."""
