"""Failures: the quarantine (callbacks that could not be read) and dead letters (events that a handler gave up on)."""
