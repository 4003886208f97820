"""What the public edge and the workers agree on: wire format, events, settings, keys, queues, errors."""
