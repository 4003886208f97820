"""What `callbacks check` tries: each file one part of the service."""
