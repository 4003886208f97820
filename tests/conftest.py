"""What every test stands on."""

from hypothesis import settings

# Two busy cores make any example slow now and then; no test asserts a time.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
