"""A workspace on disk: its paths, its runs, its effective schema and its erasure record."""
