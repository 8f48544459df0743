"""The vocabulary: frozen values every floor shares. No behaviour beyond what a value says of itself."""
