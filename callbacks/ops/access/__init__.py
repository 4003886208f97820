"""Access: client addresses, sign-in limits, sessions and their revocation. It knows no page."""
