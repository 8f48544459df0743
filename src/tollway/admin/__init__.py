"""The control plane: one file a noun, one function an action, called by the HTTP API, the CLI and the UI."""
