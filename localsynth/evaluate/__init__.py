"""The evaluation report of a finished run."""

import os

from localsynth.system.cpu import default_threads

# joblib, used by scikit-learn, otherwise counts cores with a tool that a bare system lacks, and prints a traceback.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(default_threads()))
