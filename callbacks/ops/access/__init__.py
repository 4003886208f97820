"""Who asks, and whether they may: addresses, attempts at the password, sessions and their end. It knows no page."""
