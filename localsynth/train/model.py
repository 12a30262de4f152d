"""The base model with LoRA adapters, of which factor B is trained, and the loss over learned tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from localsynth.llm.row_text import Encoded
from localsynth.train.attention import PACKED_ATTENTION
from localsynth.train.base_model import Precision, load_base_model
from localsynth.train.batches import IGNORE, WIDTH_STEPS, MicroBatch, micro_batches, padded_width
from localsynth.train.lora_layer import LoraLinear, UnitGradients, fuse_adapters
from localsynth.train.loss import summed_cross_entropy
from localsynth.train.norm import fuse_norms


class LossModel(nn.Module):
    """A micro-batch in, summed loss out. Logits are computed only where there is a target: the output layer is expensive.

    After `backward()` on the loss, `unit_gradients.take()` has each unit's gradient of `weights`.
    """

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
        return micro_batches(units, token_budget, self._width_step)

    def padded_width(self, unit: Sequence[Encoded]) -> int:
        """Positions that each row of a unit takes in them."""
        return padded_width(unit, self._width_step)

    @property
    def _width_step(self) -> int:
        return WIDTH_STEPS[self.weights[0].device.type]

    def forward(self, micro: MicroBatch) -> torch.Tensor:
        """The sum of cross-entropies in nats over targets that are not IGNORE."""
        self.unit_gradients.begin(micro)
        language_model = self.language_model
        output = language_model.model(
            inputs_embeds=language_model.model.embed_tokens(micro.tokens)[None],
            position_ids=micro.positions[None],
            use_cache=False,
            packing=micro,
            in_float32=self.attention_in_float32,
        )
        micro.masks.clear()  # the backward pass needs none, and a batch's micro-batches live until its last one
        learned = micro.targets != IGNORE
        return summed_cross_entropy(output.last_hidden_state[0][learned], language_model.lm_head.weight, micro.targets[learned])


def adapted_base(
    base: Path, rank: int, alpha: int, targets: list[str], precision: Precision, device: str, seed: int
) -> PeftModel:
    """The GGUF `base` with fresh float32 adapters of PEFT (B = 0: the model starts as the base), of which only B is trained.

    A keeps its random initial values (FFA-LoRA, Sun et al. 2024, arXiv:2403.12313): noise in both factors would be
    multiplied, and half as many numbers need noise. The base is on its device before the adapters are added, so that they are
    there, too. `seed` fixes A's public values, so that a resumed run continues the same adapter.
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
    """What a run keeps of its model to resume: both factors of each adapter.

    A is not trained, but its random initial values may depend on the versions of torch and PEFT, and on the precision.
    """
    return [factor for layer in _adapted_layers(model).values() for factor in (layer.a, layer.b)]
