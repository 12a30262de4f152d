"""DP-SGD fine-tuning of the base model with LoRA adapters."""

import logging
import os
import sys

# bitsandbytes, which peft imports where it is installed, takes code for AVX512-BF16 processors from a model hub by the package
# `kernels`. What trains here is what pip installed: no network, and no code that a cache of the hub holds. It does without, and
# its advice to install that package is left out.
os.environ["HF_HUB_OFFLINE"] = "1"
# Nothing is compiled by torch here. Without this, bitsandbytes imports its compiler, which takes seconds.
os.environ["TORCHDYNAMO_DISABLE"] = "1"
sys.modules["kernels"] = None  # type: ignore[assignment]
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: "kernels-community" not in str(record.msg))
