"""How fast this machine is, in ratios measured in one run."""
