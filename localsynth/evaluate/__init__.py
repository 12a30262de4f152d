"""Measuring a finished run."""

import os

from localsynth.system.cpu import default_threads

# joblib, below scikit-learn, otherwise counts cores by a tool that a bare system lacks, and prints a traceback about it.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(default_threads()))
