"""Whether a reply opts out of further messages (STOP) or in again (START), as the handler `optout` reads it."""

from shared.opt_outs import Keywords, normalize, wish

__all__ = ["Keywords", "normalize", "wish"]
