"""The measurements behind every figure in the README: a command for each table, and `table`, which shows the goals."""
