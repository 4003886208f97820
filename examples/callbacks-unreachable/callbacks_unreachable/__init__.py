"""A package with a handler for the callbacks service: it lists numbers that messages no longer reach."""
