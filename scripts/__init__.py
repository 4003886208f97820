"""What `make` runs to fill `.venv` and to build a release: it imports no package of the service."""
