"""The handler `stream`: adds each event as one entry to a Redis stream.

handler        what the worker loads: the settings, and what an error of Redis means for the events
retention      removes old entries
redis_stream   adds each event once, with one round trip for a batch
"""
