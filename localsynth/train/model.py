"""The base model with what is trained of it (factor B of LoRA adapters, or a soft prompt), and the loss over learned tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from torch import nn

from localsynth.config import TrainConfig
from localsynth.llm.adapter import read_adapter, read_prompt, write_adapter, write_prompt
from localsynth.llm.row_text import Encoded
from localsynth.system.cpu import multiplies_bf16
from localsynth.system.extras import need_quantizing_part
from localsynth.train.attention import PACKED_ATTENTION
from localsynth.train.base_model import Precision, load_base_model
from localsynth.train.batches import IGNORE, WIDTH_STEPS, MicroBatch, micro_batches, padded_width
from localsynth.train.lora_layer import LoraLinear, UnitGradients, fuse_adapters
from localsynth.train.loss import summed_cross_entropy
from localsynth.train.norm import fuse_norms

__all__ = [
    "LossModel",
    "PromptModel",
    "adapted_base",
    "adapter_pairs",
    "build_model",
    "build_prompt_model",
    "choose_precision",
    "kept_weights",
    "model_to_train",
    "set_adapter",
    "trained_model",
    "write_trained",
]


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


class LossModel(nn.Module):
    """A micro-batch in, summed loss out. Logits are computed only where a target is, since the vocabulary's product is dear.

    After `backward()` on the loss, `unit_gradients.take()` has each unit's gradient of `weights`.
    """

    before = 0
    """Positions that each example has before its tokens."""
    attention_in_float32 = False
    """Whether attention is computed in float32, whatever the model is in."""

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__()
        self.adapted = adapted
        language_model = self.language_model
        language_model.set_attn_implementation(PACKED_ATTENTION)
        fuse_norms(language_model)
        self.weights: list[nn.Parameter] = [weight for weight in self.parameters() if weight.requires_grad]
        self.unit_gradients = UnitGradients(self.weights)
        numbers = {id(weight): number for number, weight in enumerate(self.weights)}
        for module in language_model.modules():
            if isinstance(module, LoraLinear):
                module.leave_gradients_in(self.unit_gradients, numbers[id(module.b)])

    @property
    def language_model(self) -> Any:
        """The transformers model inside."""
        return self.adapted.base_model.model

    def micro_batches(self, units: Sequence[Sequence[Encoded]], token_budget: int) -> list[MicroBatch]:
        """`batches.micro_batches` as this model needs them."""
        return micro_batches(units, token_budget, self.before, self._width_step)

    def padded_width(self, unit: Sequence[Encoded]) -> int:
        """Positions that each row of a unit takes in them."""
        return self.before + padded_width(unit, self._width_step)

    @property
    def _width_step(self) -> int:
        return WIDTH_STEPS[self.weights[0].device.type]

    def forward(self, micro: MicroBatch) -> torch.Tensor:
        """The sum of cross-entropies in nats over targets that are not IGNORE."""
        self.unit_gradients.begin(micro)
        return self._loss(self.language_model.model.embed_tokens(micro.tokens), micro)

    def _loss(self, embedded: torch.Tensor, micro: MicroBatch) -> torch.Tensor:
        language_model = self.language_model
        output = language_model.model(
            inputs_embeds=embedded[None],
            position_ids=micro.positions[None],
            use_cache=False,
            packing=micro,
            in_float32=self.attention_in_float32,
        )
        micro.masks.clear()  # the backward pass needs none, and a batch's micro-batches live until its last one
        learned = micro.targets != IGNORE
        return summed_cross_entropy(output.last_hidden_state[0][learned], language_model.lm_head.weight, micro.targets[learned])


class PromptModel(LossModel):
    """The same loss, with learned embeddings before each row (prompt tuning, Lester et al. 2021, arXiv:2104.08691)."""

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__(adapted)
        self.before = len(self.prompt)

    @property
    def language_model(self) -> Any:
        """The transformers model inside."""
        return self.adapted.base_model

    @property
    def prompt(self) -> nn.Parameter:
        """The learned embeddings, (tokens, width), float32."""
        (weight,) = self.weights
        return weight

    def forward(self, micro: MicroBatch) -> torch.Tensor:
        """As `LossModel.forward`; the prompt's own positions carry no loss."""
        self.unit_gradients.begin(micro)
        known = self.language_model.model.embed_tokens(micro.tokens)
        # A copy for each row, so that each has a gradient of its own.
        rows = (
            self.prompt.detach().to(known.dtype).expand(len(micro.unit), -1, -1).clone().requires_grad_(torch.is_grad_enabled())
        )
        if rows.requires_grad:
            rows.register_hook(lambda gradient: self.unit_gradients.put(0, gradient.float()))  # type: ignore[no-untyped-call]
        starts = [group.start + group.width * row for group in micro.groups for row in range(group.rows)]
        places = torch.tensor(starts, device=known.device)[:, None] + torch.arange(self.before, device=known.device)
        return self._loss(known.index_put((places.flatten(),), rows.flatten(0, 1)), micro)


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


def adapted_base(
    base: Path, rank: int, alpha: int, targets: list[str], precision: Precision, device: str, seed: int
) -> PeftModel:
    """The GGUF `base` with fresh float32 adapters of PEFT (B = 0: the model starts as the base), of which only B is trained.

    A stays as drawn (FFA-LoRA, Sun et al. 2024, arXiv:2403.12313): noise in both factors would be multiplied, and half as many
    numbers need noise. The base is on its device before the adapters are added, so that they are there, too. `seed` fixes A's
    public values, so that a resumed run continues the same adapter.
    """
    model = load_base_model(base, precision, device)
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        weight.requires_grad_("lora_B" in name)
        if "lora_" in name:
            weight.data = weight.data.to(device=device, dtype=torch.float32)
    return adapted


def build_model(base: Path, rank: int, alpha: int, targets: list[str], precision: Precision, device: str, seed: int) -> LossModel:
    """A `LossModel` of `adapted_base`, with our layers in place of PEFT's."""
    adapted = adapted_base(base, rank, alpha, targets, precision, device, seed)
    fuse_adapters(adapted)
    return LossModel(adapted)


def _adapted_layers(model: LossModel) -> dict[str, LoraLinear]:
    """The layers with an adapter, by module path in the base model."""
    modules = model.language_model.named_modules()
    return {name: module for name, module in modules if isinstance(module, LoraLinear)}


def adapter_pairs(model: LossModel) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The adapters as arrays: {module path in the base model: (A (rank, in), B (out, rank))}."""
    return {
        name: (layer.a.detach().cpu().numpy().copy(), layer.b.detach().cpu().numpy().T.copy())
        for name, layer in _adapted_layers(model).items()
    }


def set_adapter(model: LossModel, pairs: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
    """Give the model the adapters of `adapter_pairs`."""
    for name, layer in _adapted_layers(model).items():
        a, b = pairs[name]
        layer.a.data.copy_(torch.from_numpy(a))
        layer.b.data.copy_(torch.from_numpy(b.T))


def kept_weights(model: LossModel) -> list[nn.Parameter]:
    """What a run keeps of its model to go on: the soft prompt, or both factors of each adapter. A is not trained, but drawn by
    torch and PEFT, and another version of them, or another precision, may draw another one."""
    if isinstance(model, PromptModel):
        return [model.prompt]
    return [factor for layer in _adapted_layers(model).values() for factor in (layer.a, layer.b)]


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
    set_adapter(model, read_adapter(directory).pairs)
    return model
