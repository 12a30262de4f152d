"""Where the training computes, and in which number format. It loads torch alone, so that estimates are quick."""

from typing import Literal

import torch

from localsynth.errors import ResourceError
from localsynth.system.cpu import multiplies_bf16
from localsynth.system.extras import need_quantizing_part
from localsynth.train.base_model import Precision
from localsynth.train.cost import Device


def choose_device(wanted: str) -> Device:
    """Where to compute, by `train.device`: "cuda" or "cpu". Raises ResourceError where CUDA is wanted and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ResourceError("No CUDA device was found.", "Set train.device to 'auto' or 'cpu'.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def choose_precision(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    """The number format of the frozen base: as wanted, else NF4 on CUDA, bf16 where the processor is fast at it, fp32.

    Raises ResourceError where that is NF4 and the part for it is missing.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    fastest: Precision = "nf4" if on_gpu else "bf16" if multiplies_bf16() else "fp32"
    precision = fastest if wanted == "auto" else wanted
    if precision == "nf4":
        need_quantizing_part()
    return precision
