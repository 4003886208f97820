"""The web process's own /metrics: its processes' reports, added up, on a port of its own, without Redis."""
