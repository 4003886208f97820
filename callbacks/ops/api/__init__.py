"""`/api` on the operators' port: what pages show and commands print, for programs with a bearer token."""
