"""RQ as this service uses it: claiming jobs, leases, supervisor, maintenance, pauses, and what bends RQ's worker."""
