"""A worker without a queue, and checks that every handler should pass: offered as `callbacks.testing`."""
