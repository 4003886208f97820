"""Example handlers, each run by a test."""
