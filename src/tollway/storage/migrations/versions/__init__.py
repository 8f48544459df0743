"""One file a schema change, numbered. A change only adds, so that the version before still works beside
it."""
