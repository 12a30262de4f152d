"""The terminal UI: a client of the same stream of events as the command line."""
