"""One handler called: in bounded time, with what it holds open, and what its end means for the events."""
