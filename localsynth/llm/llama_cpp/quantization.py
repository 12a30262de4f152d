"""Quantization of a model file."""

import ctypes
import os
from pathlib import Path

import llama_cpp

from localsynth.errors import ResourceError
from localsynth.llm.llama_cpp.library import error_log

_QUANTIZATIONS = {
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}


def quantize(source: Path, target: Path, quantization: str, threads: int) -> None:
    """Quantize an F16 GGUF with llama.cpp. `quantization` is one of BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0.

    No importance matrix is used: it would need texts, and private ones must not influence the result without a charge.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = _QUANTIZATIONS[quantization]
    error_log.clear()
    code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    if code != 0:
        raise ResourceError(
            f"llama.cpp could not quantize {source.name} to {quantization}: {error_log.last(f'code {code}')}.",
            "Check the free disk space, or choose another sample.quantization.",
        )
