"""The operators' side: what the service is doing, on a port of its own."""
