"""People's data: every store that can hold a person's number or texts, searched for numbers, exported and erased.

stores        the table of all stores: where they are, how a number is found and erased there, until when data stay
report        what was found, erased and left in each store
record_bodies callbacks without the records that mention a number
jobs          callbacks and events that wait in Redis
failures      the quarantine and the dead letters
erasure       all stores of one command, in order, until nothing is left
"""
