"""The registry: every action that a server can run. Standard library only, Python >= 3.9: this code runs on servers."""
