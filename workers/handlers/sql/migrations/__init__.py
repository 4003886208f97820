"""The steps from one schema to the next, in `versions`; see `workers.handlers.sql.schema`."""
