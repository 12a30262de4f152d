"""The base model with what is trained of it (factor B of LoRA adapters, or a soft prompt), and the loss over learned tokens."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from localsynth.adapter import read_adapter, read_prompt, write_adapter, write_prompt
from localsynth.config import TrainConfig
from localsynth.processor import has_tiles, multiplies_bf16
from localsynth.train.base_model import Precision, load_base_model
from localsynth.train.batches import IGNORE
from localsynth.train.lora_layer import LoraLinear, fuse_adapters
from localsynth.train.loss import summed_cross_entropy
from localsynth.training_parts import need_quantizing_part

__all__ = [
    "LossModel",
    "PromptModel",
    "adapter_pairs",
    "build_model",
    "build_prompt_model",
    "choose_precision",
    "kept_weights",
    "model_to_train",
    "trained_model",
    "write_trained",
]


def choose_precision(wanted: Literal["auto"] | Precision, device: str) -> Precision:
    """The number format of the frozen base: as wanted, else NF4 on CUDA, bf16 where the processor is fast at it, fp32.

    Processors with AMX are fast at bf16 in that unit alone, which training keeps off (`localsynth.train`): there fp32 is faster.
    Raises ResourceError where that is NF4 and the part for it is missing.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    fastest: Precision = "nf4" if on_gpu else "bf16" if multiplies_bf16() and not has_tiles() else "fp32"
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


class PromptModel(LossModel):
    """The same loss, with learned embeddings before each row (prompt tuning, Lester et al. 2021, arXiv:2104.08691)."""

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """As `LossModel.forward`; the prompt's own positions carry no loss."""
        language_model = self.adapted.base_model
        known = language_model.model.embed_tokens(tokens)
        # Looked up once for each row, so that Opacus' hooks see each row's own gradient of it. PEFT's get_prompt looks it up
        # once for all of them.
        virtual = self.adapted.prompt_tokens["default"].to(tokens.device)
        prompt = self.adapted.prompt_encoder["default"](virtual.expand(len(tokens), -1))
        rows = torch.cat([prompt.to(known.dtype), known], dim=1)
        hidden = language_model.model(inputs_embeds=rows, use_cache=False).last_hidden_state[:, prompt.shape[1] :]
        learned = targets != IGNORE
        return summed_cross_entropy(hidden[learned], language_model.lm_head.weight, targets[learned])

    @property
    def prompt(self) -> nn.Parameter:
        """The learned embeddings, (tokens, width), float32."""
        weight: nn.Parameter
        (weight,) = [each for each in self.adapted.parameters() if each.requires_grad]
        return weight


def model_to_train(
    base: Path, targets: list[str], settings: TrainConfig, precision: Precision, device: str, seed: int
) -> LossModel:
    """A fresh model for `settings`: with adapters on the layers named in `targets`, or with a soft prompt."""
    if settings.method == "prompt":
        return build_prompt_model(base, settings.prompt_tokens, precision, device, seed)
    return build_model(base, settings.rank, settings.alpha, targets, precision, device, seed)


def build_prompt_model(base: Path, tokens: int, precision: Precision, device: str, seed: int) -> PromptModel:
    """A `PromptModel` of the GGUF `base`; its prompt begins as embeddings of `tokens` tokens drawn with the public `seed`."""
    model = load_base_model(base, precision, device)
    torch.manual_seed(seed)
    settings = PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM, num_virtual_tokens=tokens, prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB
    )
    adapted = get_peft_model(model, settings)
    return PromptModel(adapted.to(device))


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

    Of each adapter only B is trained; A stays as drawn (FFA-LoRA, Sun et al. 2024, arXiv:2403.12313): noise in both factors
    would be multiplied, and half as many numbers need noise. The base is on its device before the adapters are added: otherwise
    Opacus leaves LoRA silently untrained (its issue 820). `seed` fixes A's public values, so that a resumed run continues the
    same adapter. `fused`: see `lora_layer`; without, the layers are PEFT's own (for comparison).
    """
    model = load_base_model(base, precision, device)
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        weight.requires_grad_("lora_B" in name)
        if "lora_" in name:
            weight.data = weight.data.to(device=device, dtype=torch.float32)
    if fused:
        fuse_adapters(adapted)
    return LossModel(adapted)


def adapter_pairs(model: LossModel) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The adapters as arrays: {module path in the base model: (A (rank, in), B (out, rank))}."""
    pairs = {}
    for name, module in model.adapted.base_model.model.named_modules():
        if isinstance(module, LoraLinear | LoraLayer):
            a, b = _factors(module)
            pairs[name] = (a.detach().cpu().numpy().copy(), b.detach().cpu().numpy().copy())
    return pairs


def _factors(module: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """A and B of an adapted layer, ours or PEFT's."""
    if isinstance(module, LoraLinear):
        return module.a, module.b
    assert isinstance(module, LoraLayer)
    return module.lora_A["default"].weight, module.lora_B["default"].weight


def kept_weights(model: LossModel) -> list[nn.Parameter]:
    """What a run keeps of its model to go on: the soft prompt, or both factors of each adapter. A is not trained, but drawn by
    torch and PEFT, and another version of them, or another precision, may draw another one."""
    if isinstance(model, PromptModel):
        return [model.prompt]
    factors = [_factors(m) for m in model.adapted.base_model.model.modules() if isinstance(m, LoraLinear | LoraLayer)]
    return [factor for pair in factors for factor in pair]


def write_trained(directory: Path, model: LossModel, settings: TrainConfig) -> None:
    """Write what was trained into `directory`. Raises ResourceError."""
    if isinstance(model, PromptModel):
        write_prompt(directory, model.prompt.detach().cpu().numpy())
    else:
        write_adapter(directory, adapter_pairs(model), settings.rank, settings.alpha)


def trained_model(
    base: Path, targets: list[str], settings: TrainConfig, directory: Path, precision: Precision, device: str
) -> LossModel:
    """The model as it was trained, from what `write_trained` wrote: for evaluation with torch. Raises IntegrityError."""
    model = model_to_train(base, targets, settings, precision, device, seed=0)
    if isinstance(model, PromptModel):
        model.prompt.data.copy_(torch.from_numpy(read_prompt(directory)))
        return model
    pairs = read_adapter(directory).pairs
    for name, module in model.adapted.base_model.model.named_modules():
        if name in pairs:
            a, b = _factors(module)
            a.data.copy_(torch.from_numpy(pairs[name][0]))
            b.data.copy_(torch.from_numpy(pairs[name][1]))
    return model
