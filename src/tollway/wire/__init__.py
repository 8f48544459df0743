"""The tongue: bytes and their meaning. Pure functions and sans-I/O parsers; no socket, no clock."""
