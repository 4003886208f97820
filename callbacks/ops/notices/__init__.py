"""Notices of what happens to the service, for people who do not watch it: what is due, to whom, how it is sent."""
