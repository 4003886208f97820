"""The service's own name on the path, from which its processes start. It imports nothing of the service by itself."""
