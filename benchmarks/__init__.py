"""The measurements behind docs/performance.md: a command for each table, and `table`, which shows the goals."""
