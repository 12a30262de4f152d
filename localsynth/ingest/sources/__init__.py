"""Readers of source files: each yields rows of strings with checked column names."""
