"""How the service is, read from Redis: what /metrics, the page *Now* and `callbacks top` tell. It knows no HTML."""
