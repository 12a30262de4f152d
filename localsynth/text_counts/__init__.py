"""A noisy token histogram of the original texts, and the logit bias that corrects sampling by it."""
