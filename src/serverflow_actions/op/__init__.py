"""Operations on one server: what ran, what runs, how it ended. Carried out by the runner itself (remote/core.py)."""
