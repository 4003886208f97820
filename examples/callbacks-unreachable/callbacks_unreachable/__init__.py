"""Which numbers no message reaches any more: a package of its own, with a handler for the callbacks service."""
