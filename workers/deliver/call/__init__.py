"""One handler is called: its time limit, its lifespan, and the outcome of each event."""
