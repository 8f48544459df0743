"""How a gateway proves itself to a provider: one way a file."""
