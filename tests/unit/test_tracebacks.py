"""Where an exception was raised is text without its message, whatever its chain looks like."""

from shared import tracebacks


def test_a_cyclic_chain_of_exceptions_ends() -> None:
    first, second = ValueError("a number"), KeyError("a text")
    first.__cause__, second.__cause__ = second, first

    text = tracebacks.format_redacted(first)

    assert text.count("ValueError") == text.count("KeyError") == 1
    assert "a number" not in text
