"""OpenTelemetry spans of the web process, or nothing if they are not asked for."""
