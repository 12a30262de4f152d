"""Processes that the terminal UI starts, and their state."""
