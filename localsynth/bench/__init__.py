"""How fast this machine is, in ratios measured in one run."""

import localsynth.train  # noqa: F401  # sets what must stand before the first import of torch and peft
