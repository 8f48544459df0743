"""Measures the gateway against a bare relay and against its peers, in one run on one machine."""
