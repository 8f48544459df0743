"""The doors: what clients connect to. Both lead onto the one hallway in ``pipeline``."""
