"""Callbacks become events: read, told apart into new and known, and put on the queue of each handler."""
