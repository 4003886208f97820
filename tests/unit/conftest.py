"""What unit tests share: fixtures that live beside what they make."""

from tests.unit.spools import opened

__all__ = ["opened"]
