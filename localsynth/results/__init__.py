"""The results of the commands, as frozen records: the worker makes them, the command line and the terminal UI show them."""
