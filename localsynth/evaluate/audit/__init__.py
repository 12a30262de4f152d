"""The canary audit: a training run on random canaries, and a membership attack on what the run releases."""
