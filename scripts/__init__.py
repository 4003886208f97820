"""What `make` runs before the service is installed: the standard library alone."""
