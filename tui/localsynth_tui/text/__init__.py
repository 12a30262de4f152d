"""Facts as text for the screen."""
