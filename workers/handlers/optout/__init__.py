"""The handler `optout`: keeps who wants no further messages, in the database of the handler `sql`.

handler        what the worker loads
number_wishes  what is kept of a number, and which of two wishes is the later one
forgotten      what stays of an opt-out whose number was forgotten
wish_table     reads and writes them

What a reply says is read by `callbacks.opt_outs`. The database is opened by `workers.handlers.sql`.
"""
