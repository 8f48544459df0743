"""Tollway, an LLM gateway: one endpoint in front of every model provider."""

__version__ = "0.1.0"
