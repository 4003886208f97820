"""A worker without a queue, and checks that each handler should pass: published as `callbacks.testing`."""
