"""State that processes share: one contract (interface.py), one file an engine."""
