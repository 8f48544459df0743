"""Settings as values: what they are (settings.py) and how a file and the environment become them
(load.py)."""
