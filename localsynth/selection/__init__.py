"""Choosing among texts that a model wrote: one noisy count of what the original texts are about, and rows chosen by it."""
