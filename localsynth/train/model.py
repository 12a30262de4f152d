"""The base model with LoRA adapters, and the loss over learned tokens."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from localsynth.processor import multiplies_bf16
from localsynth.train.base_model import Precision, load_base_model
from localsynth.train.batches import IGNORE
from localsynth.train.lora_layer import LoraLinear, fuse_adapters
from localsynth.train.loss import summed_cross_entropy
from localsynth.training_parts import need_quantizing_part

__all__ = ["LossModel", "adapter_pairs", "build_model", "choose_precision"]


def choose_precision(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    """The number format of the frozen base: as wanted, else NF4 on CUDA, bf16 where the processor multiplies it, fp32.

    Raises ResourceError where that is NF4 and the part for it is missing.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    fastest: Precision = "nf4" if on_gpu else "bf16" if multiplies_bf16() else "fp32"
    precision = fastest if wanted == "auto" else wanted
    if precision == "nf4":
        need_quantizing_part()
    return precision


class LossModel(nn.Module):
    """Token ids in, summed loss out. Logits are computed only where a target is, since the vocabulary's product is dear."""

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__()
        self.adapted = adapted

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """tokens, targets (examples, length) → the sum of cross-entropies in nats over targets that are not IGNORE.

        No attention mask is needed: attention is causal and padding is on the right, so no token with loss sees any.
        """
        language_model = self.adapted.base_model.model
        hidden = language_model.model(input_ids=tokens, use_cache=False).last_hidden_state
        learned = targets != IGNORE
        return summed_cross_entropy(hidden[learned], language_model.lm_head.weight, targets[learned])


def build_model(
    base: Path,
    rank: int,
    alpha: int,
    targets: list[str],
    precision: Precision,
    device: str,
    seed: int,
    fused: bool = True,
) -> LossModel:
    """A `LossModel` of the GGUF `base` with fresh float32 adapters (B = 0: the model starts as the base).

    The base is on its device before the adapters are added: otherwise Opacus leaves LoRA silently untrained (its issue 820).
    `seed` fixes A's public starting values, so that a resumed run continues the same adapter. `fused`: see `lora_layer`; without,
    the layers are PEFT's own (for comparison).
    """
    model = load_base_model(base, precision, device)
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            weight.data = weight.data.to(device=device, dtype=torch.float32)
    if fused:
        fuse_adapters(adapted)
    return LossModel(adapted)


def adapter_pairs(model: LossModel) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The adapters as arrays: {module path in the base model: (A (rank, in), B (out, rank))}."""
    pairs = {}
    for name, module in model.adapted.base_model.model.named_modules():
        if isinstance(module, LoraLinear):
            a, b = module.a, module.b
        elif isinstance(module, LoraLayer):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        else:
            continue
        pairs[name] = (a.detach().cpu().numpy().copy(), b.detach().cpu().numpy().copy())
    return pairs
