"""A worker process at its queue, and its supervisor: taking, settling, putting back, pausing."""
