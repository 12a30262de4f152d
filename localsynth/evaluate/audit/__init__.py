"""The canary audit: a training run on made-up canaries whose coins are guessed from what the run releases."""
