"""Estimates of what training needs, from the model's sizes: trained parameters, memory, speed, tokens of a micro-batch.

Reads no row. Sizes of rows are public guesses.
"""

import math
from collections.abc import Sequence
from typing import Literal

from localsynth.config import TrainConfig
from localsynth_models.catalog import GgufInfo

Device = Literal["cpu", "cuda"]

_MAX_TOKENS: dict[Device, int] = {"cpu": 1024, "cuda": 16384}
"""Maximum tokens of a micro-batch. A processor gains nothing from more; a GPU takes hardly longer for 16,384 tokens of a small
model than for 1,024 (docs/performance.md)."""
_MIN_TOKENS = 64
"""The minimum that train.micro_batch_tokens allows."""

_FIXED_BYTES: dict[Device, float] = {"cpu": 480 * 2**20, "cuda": 64 * 2**20}
"""Of a process, what Python, torch and their libraries take before a model is loaded (450 MiB), and what loading one leaves; on a
GPU the workspace of the matrix products. What the driver holds for each process is not counted."""
_KEPT: dict[Device, float] = {"cpu": 1.6, "cuda": 1.05}
"""Memory that activations take for a byte kept. Pieces freed between kept ones stay in the C library's heap; a GPU's are used
again. Both measured (docs/performance.md)."""
_LOSS_POSITIONS = 256
_LOSS_SLICE: dict[Device, int] = {"cpu": 16, "cuda": 256}
"""Positions whose logits are held at once, and those whose float32 shares are (train/loss.py)."""
_SHORTEST_UNIT: dict[Device, int] = {"cpu": 8, "cuda": 16}
"""What a unit is padded to at least, in positions (train/batches.py)."""
_NF4_BYTES = 0.52
"""Of a weight in NF4, its scales included: one in 8 bits for 64 weights, and one in 32 bits for 256 of those."""

_KEPT_BYTES_RATE = 2.5e8
"""Bytes of kept activations (`kept_activations`) that a core works through in a second besides the matrix products: a token took
1.6 ms more than its products in float32 on two cores, 0.8 ms more in bf16, which keeps half the bytes (docs/performance.md)."""
_GPU_SHARE = 0.38
"""Share of a GPU's matrix-product rate that training reaches where it does not wait for kernel launches: a guess."""
_LAUNCH_SECONDS = 0.01
"""What Python takes to launch a block's kernels for a micro-batch, forward and backward: a lower bound of the block's time.
Measured on one machine with an H100 and a slow processor."""


def trained_parameters(info: GgufInfo, targets: Sequence[str], train: TrainConfig) -> int:
    """How many numbers get gradients and noise: factor B (rank, out) of each layer named in `targets`."""
    outputs = dict.fromkeys(("q_proj", "o_proj", "down_proj"), info.embedding_length)
    outputs |= dict.fromkeys(("k_proj", "v_proj"), _key_width(info))  # whose heads are shared
    outputs |= dict.fromkeys(("gate_proj", "up_proj"), info.feed_forward_length)
    return info.block_count * train.rank * sum(outputs[name] for name in targets)


def _key_width(info: GgufInfo) -> int:
    return info.embedding_length * info.head_count_kv // info.head_count


def kept_activations(info: GgufInfo, longest: float) -> float:
    """Numbers that the backward pass needs of each position, in rows of up to `longest` tokens.

    Of each block: two norms, queries, keys, values and attention's shares; gate before and after its activation function, and up.
    """
    attention = info.embedding_length + 2 * _key_width(info) + info.head_count * longest
    return info.block_count * (2 * info.embedding_length + attention + 3 * info.feed_forward_length)


def _weight_bytes(info: GgufInfo, precision: str) -> float:
    if precision == "fp32":
        return 4.0 * info.parameters
    if precision == "bf16":
        return 2.0 * info.parameters
    # The blocks' linear layers are in 4 bits, the vocabulary's in 16.
    width, inner = info.embedding_length, info.feed_forward_length
    linear = info.block_count * (2 * width * width + 2 * width * _key_width(info) + 3 * width * inner)
    return _NF4_BYTES * linear + 2 * max(0, info.parameters - linear)


def training_memory(
    info: GgufInfo,
    targets: Sequence[str],
    train: TrainConfig,
    precision: str,
    device: Device,
    tokens: int,
    unit: float,
    longest: float,
) -> float:
    """Bytes that training holds at most: of the process on a processor, of the GPU's memory on a GPU.

    `tokens` are computed at once. `unit` and `longest`: tokens of a unit and of a long row.
    """
    number, trained = 4 if precision == "fp32" else 2, trained_parameters(info, targets, train)
    # The maximum number of units, which training computes once before its first step (train/batch_invariance.py).
    units = tokens / _SHORTEST_UNIT[device]
    # Weights, their copy, gradient and AdamW's two moments in float32, the sum in float64; on a processor so are the noise and
    # its sum.
    step = trained * (5 * 4 + 8 + (2 * 8 if device == "cpu" else 0))
    return (
        _FIXED_BYTES[device]
        + _weight_bytes(info, precision)
        + _KEPT[device] * number * max(tokens, unit) * kept_activations(info, longest)
        + 4 * trained * units
        + step
        + info.vocab_size * (number * _LOSS_POSITIONS + 4 * _LOSS_SLICE[device])
    )


def fitting_tokens(
    info: GgufInfo,
    targets: Sequence[str],
    train: TrainConfig,
    precision: str,
    device: Device,
    unit: float,
    longest: float,
    batch_size: int,
    room: float,
) -> int:
    """The tokens of a micro-batch: `train.micro_batch_tokens`, or as many as a batch is likely to have and fit into `room` bytes.

    The other arguments are those of `training_memory`. Depends on public figures alone, so not on who is in the table.
    """
    if train.micro_batch_tokens is not None:
        return train.micro_batch_tokens
    # Micro-batches are filled up to their length: more than a batch has would be computed for nothing.
    wanted = 1 << math.ceil(math.log2(max(1024.0, 1.25 * batch_size * unit)))
    tokens = min(_MAX_TOKENS[device], wanted)
    while tokens > _MIN_TOKENS:
        if training_memory(info, targets, train, precision, device, tokens, unit, longest) <= room:
            break
        tokens //= 2
    return tokens


def resumed_micro_batch_tokens(train: TrainConfig, recorded: int, device: Device) -> int:
    """The tokens of a micro-batch in a resumed run that began with `recorded`.

    Fewer where `train` now says so, or where the run resumes on a `device` that gains nothing from as many.
    """
    return min(recorded, train.micro_batch_tokens or _MAX_TOKENS[device])


def training_rate(
    info: GgufInfo, precision: str, device: Device, tokens: int, matmul_rate: float, longest: float, cores: int
) -> float:
    """Tokens a second: 4 operations for each weight (frozen base: no weight gradients), and the time for what lies between.

    `tokens` are computed at once; `matmul_rate` in operations a second.
    """
    products = 4 * info.parameters / matmul_rate
    if device == "cuda":
        return 1 / max(products / _GPU_SHARE, _LAUNCH_SECONDS * info.block_count / tokens)
    kept = (4 if precision == "fp32" else 2) * kept_activations(info, longest)
    return 1 / (products + kept / (_KEPT_BYTES_RATE * cores))
