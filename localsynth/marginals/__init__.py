"""Structured columns by noisy marginals: measured once under one zCDP budget, fitted, and sampled as often as wanted."""
