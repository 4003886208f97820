"""What unit tests share: fixtures that live beside what they make."""

from tests.unit.spools import hurried, opened

__all__ = ["hurried", "opened"]
