"""The two databases: private.duckdb (encrypted) and synthetic.duckdb."""
