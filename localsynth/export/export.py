"""Builds the product: merges the adapter into the base, verifies the result, quantizes it, and verifies it again.

Reads only the base model and the adapter: no private data, and no text but the public probes.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from localsynth.errors import ResourceError
from localsynth.events import Emit, progress
from localsynth.export.merge import merge_adapter, merged_size
from localsynth.llm.adapter import read_adapter

# Of the F16 size. BF16 takes as much. Q8_0, the largest of the others, has 8.5 bits a weight, and some tensors take more.
_QUANTIZED_FRACTION = {"F16": 0.0, "BF16": 1.01}
_OTHER_FRACTION = 0.6
_STEPS = 5  # reference, merge, check, quantize, check


@dataclass(frozen=True)
class ExportResult:
    """The exported model. `kl` is its mean divergence from the trained model on public texts, in nats a token; `shift` is how
    far training moved the model from the base, in the same measure."""

    path: Path
    kl: float
    shift: float
    size_bytes: int
    seconds: float


def build_gguf(base: Path, adapter_directory: Path, out: Path, quantization: str, threads: int, emit: Emit) -> ExportResult:
    """Write the trained model to `out`, quantized to `quantization` (a key of `verify.KL_LIMITS`) and verified.

    Only a verified file ever has the name `out`. Raises IntegrityError (the result is not what was trained), ResourceError
    (disk space), ConfigError.
    """
    from localsynth.export.verify import check_adapter_arrived, probe_tokens, reference_logits, verify_export
    from localsynth.llm.llama_cpp import quantize

    started = time.monotonic()
    _check_space(base, out, quantization)
    adapter = read_adapter(adapter_directory)
    merged, finished = (out.with_name(f".{out.name}.{part}.part") for part in ("f16", "quantized"))

    def step(number: int) -> None:
        emit(progress("export", number, _STEPS))

    try:
        step(1)
        tokens = probe_tokens(base)
        before, reference = reference_logits(base, adapter, tokens)
        step(2)
        merge_adapter(base, adapter, merged, {})
        step(3)
        kl = verify_export(reference, merged, "F16", tokens)
        shift = check_adapter_arrived(before, reference, kl, adapter)
        step(4)
        if quantization == "F16":
            finished = merged
        else:
            quantize(merged, finished, quantization, threads)
        step(5)
        if quantization != "F16":
            kl = verify_export(reference, finished, quantization, tokens)
        _publish(finished, out)
    finally:
        merged.unlink(missing_ok=True)
        finished.unlink(missing_ok=True)
    return ExportResult(out, kl, shift, out.stat().st_size, time.monotonic() - started)


def _check_space(base: Path, out: Path, quantization: str) -> None:
    needed = int(merged_size(base) * (1 + _QUANTIZED_FRACTION.get(quantization, _OTHER_FRACTION)))
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise ResourceError(
            f"The export temporarily needs {needed / 1e9:.1f} GB in {out.parent}, and {free / 1e9:.1f} GB are free.",
            "Free some disk space, then start the command again: the training is kept.",
        )


def _publish(finished: Path, out: Path) -> None:
    try:
        with finished.open("rb+") as file:
            os.fsync(file.fileno())
        finished.replace(out)
    except OSError as error:
        raise ResourceError(
            f"Cannot write {out}: {error.strerror}.", "Check disk space and permissions, then start again."
        ) from None
