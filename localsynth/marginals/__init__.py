"""Structured columns by noisy marginals: measured once under one zCDP budget, fitted, and drawn from as often as wanted."""
