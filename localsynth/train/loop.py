"""DP-SGD, readable from top to bottom.

Each step: charge it, choose its units by Poisson sampling, sum their clipped gradients, add Gaussian noise of standard deviation
noise_multiplier * max_grad_norm, divide by the *expected* batch size, let AdamW take the step (Abadi et al. 2016).
The number of steps is fixed beforehand; nothing is chosen by the loss.

Does not know the ledger (it is handed a function that charges), the store (it is handed examples) or the workspace.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from localsynth.config import TrainConfig
from localsynth.errors import BudgetError, Cancelled, IntegrityError, ResourceError
from localsynth.events import Emit, warning
from localsynth.llm.adapter import write_adapter
from localsynth.llm.row_text import Encoded
from localsynth.privacy.noise import RandomSource
from localsynth.train.base_model import Precision
from localsynth.train.batch_invariance import max_attention_change, max_gradient_change, tolerance, try_memory
from localsynth.train.batches import IGNORE, poisson_batch
from localsynth.train.checkpoint import load_checkpoint, save_checkpoint
from localsynth.train.device import choose_device, choose_precision
from localsynth.train.memory import memory_held, peak_memory, trim_heap
from localsynth.train.model import adapter_pairs, build_model, kept_weights
from localsynth.train.plan import TrainPlan
from localsynth.train.private_gradients import ClippedSum, PrivateGradients

_CHECKPOINT_SECONDS = 20.0
"""A checkpoint costs tens of milliseconds; a crash then loses at most this much and a step."""

_MIN_TOKENS = 32
"""Micro-batches of fewer tokens are not halved further: hardly a row fits."""

_WARM_UP = 0.05
"""Share of the steps in which the learning rate rises from 0, before its cosine decay."""


@dataclass(frozen=True)
class TrainResult:
    """What training did. `steps` were taken (those repeated after a crash are charged but not counted here)."""

    steps: int
    seconds: float
    peak_memory_bytes: int
    precision: Precision
    micro_batch_tokens: int
    """Tokens of a micro-batch: as configured, or fewer where memory was short."""


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then cosine decay to a tenth of `peak`."""
    warm_up = max(1, round(_WARM_UP * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def noisy_mean(total: ClippedSum, plan: TrainPlan, random: RandomSource) -> torch.Tensor:
    """The released gradient, (size,): (clipped sum + noise) / expected batch size. Fresh noise for every coordinate."""
    noise = torch.from_numpy(random.gaussian(total.gradient.numel()))
    scale = plan.noise_multiplier * plan.max_grad_norm
    return ((total.gradient.cpu() + scale * noise) / plan.batch_size).float().to(total.gradient.device)


def train(
    *,
    load_units: Callable[[], Sequence[Sequence[Encoded]]],
    base: Path,
    targets: list[str],
    micro_batch_tokens: int,
    plan: TrainPlan,
    settings: TrainConfig,
    charge_step: Callable[[], float],
    random: RandomSource,
    run_directory: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    released: Callable[[torch.Tensor], None] | None = None,
) -> TrainResult:
    """Train an adapter on units (the encoded rows of each) and write it to `run_directory`/adapter.

    The layers named in `targets` get one. A micro-batch has `micro_batch_tokens`, or fewer where memory runs out. `load_units` is
    called once that is tried: the memory that private rows take must not decide it.
    `charge_step` records one step in the ledger, raises BudgetError where it does not fit, and returns the ε spent so far.
    Raises Cancelled after a checkpoint when `should_stop()`; the next call resumes from it. The last checkpoint stays: the
    caller removes it once it has recorded that training is done. `released` gets each step's noisy mean gradient, which is all
    that a step releases; the canary audit bases its guesses on it.
    """
    started = time.monotonic()
    device = choose_device(settings.device)
    private, precision, micro_batch_tokens = _load_batch_invariant(
        base, targets, micro_batch_tokens, plan, settings, device, emit
    )
    model = private.model
    untouched = [weight.detach().clone() for weight in private.weights]
    optimizer = torch.optim.AdamW(private.weights, lr=settings.learning_rate, weight_decay=0.0)
    checkpoint, kept = run_directory / "checkpoint", kept_weights(model)
    first = load_checkpoint(checkpoint, kept, optimizer)
    units = load_units()

    saved_at, tokens_done, computing = time.monotonic(), 0, 0.0
    step, spent = first, None
    while step < plan.steps:
        if should_stop():
            save_checkpoint(checkpoint, step, kept, optimizer)
            raise Cancelled(f"Stopped after step {step} of {plan.steps}.", "`localsynth run` resumes from there.")
        try:
            spent = charge_step()
        except BudgetError:
            if step == 0:
                raise
            # Every step of the reserve was lost to crashes. Fewer steps are still private, and better than none.
            emit(
                {"kind": "warning", "text": f"The reserve of steps is used up; training ends after step {step} of {plan.steps}."}
            )
            break
        begun = time.monotonic()
        batch = [units[i] for i in poisson_batch(random, len(units), plan.sample_rate)]
        total = _sum(private, batch, micro_batch_tokens)
        tokens_done += sum(len(example.tokens) for unit in batch for example in unit)
        noisy = noisy_mean(total, plan, random)
        if released is not None:
            released(noisy)
        for weight, gradient in zip(private.weights, private.split(noisy), strict=True):
            weight.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, settings.learning_rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        trim_heap()
        step += 1
        computing += time.monotonic() - begun
        if time.monotonic() - saved_at > _CHECKPOINT_SECONDS or step == plan.steps:
            save_checkpoint(checkpoint, step, kept, optimizer)
            saved_at = time.monotonic()
        emit(
            {
                "kind": "progress",
                "stage": "train",
                "step": step,
                "steps": plan.steps,
                "epsilon": spent,
                "rate": tokens_done / computing,
                "unit": "tokens/s",
                "seconds_left": computing / (step - first) * (plan.steps - step),
                "memory": memory_held(device),
                "device": f"{device}, {precision}",
                "private": {"loss": total.loss / max(1, total.tokens), "clipped": total.clipped / max(1, total.units)},
            }
        )
    if all(torch.equal(old, new.detach()) for old, new in zip(untouched, private.weights, strict=True)):
        raise IntegrityError("Training did not move the adapter.", "Please report this as a bug: nothing was learned.")
    write_adapter(run_directory / "adapter", adapter_pairs(model), settings.rank, settings.alpha)
    return TrainResult(step, time.monotonic() - started, peak_memory(device), precision, micro_batch_tokens)


def _load_batch_invariant(
    base: Path, targets: list[str], tokens: int, plan: TrainPlan, settings: TrainConfig, device: str, emit: Emit
) -> tuple[PrivateGradients, Precision, int]:
    """The model, its precision and the tokens of a micro-batch, such that a full one fits into memory and is batch-invariant.

    The precision is bf16 where that is fast. Where this machine's bf16 is not batch-invariant, fp32 replaces it; on a GPU first
    in attention alone, whose products grow with the number of rows. The tests run on public random tokens, and their outcome
    stays for the run. If it followed what a batch needs, one unit's presence could change how all others are rounded: in bf16,
    micro-batches of half the length changed the sum by a third of C.
    """
    precision = choose_precision(settings.precision, device)

    def loaded() -> PrivateGradients:
        model = build_model(base, settings.rank, settings.alpha, targets, precision, device, seed=plan.steps)
        return PrivateGradients(model, plan.max_grad_norm)

    private = loaded()
    while True:
        tokens, invariant = _fit_micro_batch(private, tokens, tolerance(plan.batch_size), device, emit)
        if invariant:
            return private, precision, tokens
        if device == "cuda" and precision != "fp32" and not private.model.attention_in_float32:
            private.model.attention_in_float32 = True
            instead = "attention in float32"
        elif precision == "bf16":
            precision, instead = "fp32", "training in fp32"
            del private  # before the other one takes its memory
            private = loaded()
        else:
            raise ResourceError(
                f"On this machine a row's gradient in {precision} depends on the rows computed with it, which would break the"
                " guarantee.",
                "Set train.precision to 'fp32'; where it is that already, train.device to 'cpu', or a smaller train.batch_size.",
            )
        text = f"bf16 is not batch-invariant on this machine, which would break the guarantee: {instead}."
        emit(warning(text))


def _fit_micro_batch(private: PrivateGradients, tokens: int, most: float, device: str, emit: Emit) -> tuple[int, bool]:
    """The tokens of a micro-batch, halved until a full one fits into memory, and whether a unit then changes by at most `most`.

    That is a share of the norm of its gradient.
    """
    tests = [max_gradient_change]
    if device == "cuda":  # whose library chooses kernels by the number of rows
        tests.append(max_attention_change)
    while True:
        try:
            try_memory(private, tokens)
            # NaN counts as a large change.
            return tokens, all(test(private, tokens) <= most for test in tests)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or tokens < _MIN_TOKENS:
                raise
        # Outside of the handler: the error holds on to the memory of the pass that it broke off.
        private.forget()
        tokens //= 2
        if device == "cuda":
            torch.cuda.empty_cache()
        text = f"Memory ran out: micro-batches now have {tokens} tokens (train.micro_batch_tokens), which is slower."
        emit(warning(text))


def _sum(private: PrivateGradients, batch: Sequence[Sequence[Encoded]], micro_batch_tokens: int) -> ClippedSum:
    """The clipped sum of a batch."""
    total = private.new_sum()
    try:
        for micro in private.micro_batches(batch, micro_batch_tokens):
            private.add(total, micro)
            total.tokens += int((micro.targets != IGNORE).sum())
    except (MemoryError, RuntimeError) as error:
        if _is_out_of_memory(error):
            raise ResourceError(
                "Memory ran out during training, although it sufficed at the start.",
                "Close other programs, or lower train.micro_batch_tokens; `localsynth run` resumes from the last checkpoint.",
            ) from error
        raise
    return total


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU PyTorch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
