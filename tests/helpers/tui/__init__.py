"""Drives the terminal UI, and provides the runs that it shows."""
