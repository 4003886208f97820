"""The handler `stream`: every event as one entry of a Redis stream.

handler   what the worker calls: the settings, and what an error of Redis means for the events
target    the stream: entries that are added once, in one round trip for a batch
"""
