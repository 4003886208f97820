"""Fortytwo's IM Gateway as its specification describes it, for demonstrations, tests and load.

`campaign.plan` decides what is sent, `gateway.run` sends it and returns a `summary.Summary`,
`ledger.read` returns afterwards what was acknowledged. Nothing here knows how callbacks are received.
"""
