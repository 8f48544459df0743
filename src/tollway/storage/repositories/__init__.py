"""One table family a file: what can be asked of it and done to it, in the words of the model."""
