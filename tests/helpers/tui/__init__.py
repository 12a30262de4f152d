"""A driven terminal UI and the runs that it shows."""
