"""HTML: templates, static files, forms, and escaping of untrusted text."""
