"""Retention in the stores of the built-in handlers: a thread of the supervisor that serves the handler.

stores    what is removed from each store, and how
service   the thread: when it removes, what it logs, counts and writes to Redis

Failures and operators' actions are in Redis, where maintenance removes them (`workers.failures.retention`,
`workers.admin.action_trimmer`). `shared.retention` has the rule: how long each store keeps what it holds.
"""
