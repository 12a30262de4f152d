"""One noisy count of the original texts, and rows drawn by it: of words that the model is to write, or of topics to choose by."""
