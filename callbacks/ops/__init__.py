"""The operators' service: the state of the service, on its own port."""
