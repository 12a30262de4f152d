"""Measuring a finished run."""
