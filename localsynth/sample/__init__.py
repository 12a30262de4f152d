"""Generating synthetic rows from the marginals and the merged model."""
