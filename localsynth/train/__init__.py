"""DP-SGD fine-tuning of the base model with LoRA adapters."""

import os

from localsynth.processor import has_tiles

if has_tiles():
    # Before oneDNN computes its first product. On the AMX unit the number of rows computed together changes how each of them is
    # rounded, so that one unit's presence moved the clipped sum by up to 1.0012 C (docs/experiments.md); with the AVX512-BF16
    # instructions, which every such processor has too, it does not.
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
