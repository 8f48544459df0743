"""Where things are kept: the local spool of events, the database with its tables and repositories."""
