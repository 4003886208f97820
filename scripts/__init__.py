"""What `make` runs: the standard library alone, as the service is not installed before."""
