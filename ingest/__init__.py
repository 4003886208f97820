"""The public edge: takes callbacks over HTTP, and makes them durable before it says so."""
