"""The bundled example table, and the demo that runs on it."""
