"""People's data: every store that can hold a person's number or texts, searched for numbers, exported and erased.

stores        the table of all stores: where they are, how a number is found and erased there, until when data stay
report        what was found, erased and left in each store
record_bodies callbacks without the records that mention a number
jobs          callbacks and events that wait in Redis
failures      the quarantine and the dead letters
not_read      what of a store could not be read, and why
run_marks     which runs of `forget` have not ended
erasure       the stores between which events move, until nothing is left
sql_tables, jsonl_files, log_files, stream_entries   what the built-in handlers store; file_lines rewrites files
redis_files   the append-only file and the dump
"""
