"""Callbacks become events: they are read, deduplicated, and put on the queue of each handler that wants them."""
