"""OpenTelemetry spans of the web process, or nothing where they are not asked for."""
