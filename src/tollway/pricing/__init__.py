"""Prices of models and the cost of what was used. Reads bundled files only and counts no tokens."""
