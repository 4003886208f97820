"""What operators do: pause, purge, drain, backfill, replay and drop failures; and the log of it."""
