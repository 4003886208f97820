"""The handler `jsonl`: every event as one line of JSON, in files that are begun anew by day and by size.

handler      what the worker calls: the settings, and what an error of the disk means for the events
writing      one batch of events at the end of the newest file, each once, and on the disk
known        which events the files hold
folder       the files' names, which is the newest, and whose turn it is to write
packing      gzip of the files that are closed
"""
