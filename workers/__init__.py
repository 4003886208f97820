"""What runs after the queue: expanding callbacks, and delivering events to handlers."""
