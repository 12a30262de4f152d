"""localsynth: a private table in, a synthetic one out, under differential privacy that anyone can check."""
