"""The `callbacks` command."""
