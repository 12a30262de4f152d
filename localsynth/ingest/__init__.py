"""From a source file to the typed, encrypted private table."""
