"""Callbacks on the local disk while Redis is unavailable, and their way back into Redis."""
