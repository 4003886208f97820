"""People's data: exported and erased."""
