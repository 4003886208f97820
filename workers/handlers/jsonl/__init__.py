"""The handler `jsonl`: appends each event as a line of JSON to files that rotate by day and by size.

handler       what the worker loads: the settings, and what an error of the disk means for the events
writer        appends a batch of events to the newest file, each once, and syncs it to the disk
recent_ids    the ids of the events that the files hold
folder        the names of the files, the newest file, and the lock for writing
gzip_worker   compresses closed files
retention     removes old files
"""
