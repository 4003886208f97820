"""What operators do with handlers and their queues: look, try, discard, drain, replay, give the past."""
