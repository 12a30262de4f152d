"""Structured columns by noisy marginals: measured once under one budget, fitted, and sampled as often as wanted."""
