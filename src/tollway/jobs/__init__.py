"""Work that runs beside requests: one file a task. A task has a bound, a deadline and a way to be stopped."""
