"""Failures: the quarantine (callbacks nobody could read) and dead letters (events that a handler gave up on)."""
