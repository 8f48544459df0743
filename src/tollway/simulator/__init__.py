"""The provider simulator: a real HTTP server that plays a model provider, well or badly, and keeps an exact
bill.

It serves tests, benchmarks and a first start without any provider key. It does not think: its text is made
up.
"""
