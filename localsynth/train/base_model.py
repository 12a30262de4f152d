"""The base model in torch, read from the same GGUF file that llama.cpp samples from.

transformers' own GGUF loader makes the whole model in float32 first and ignores rope scaling; here each tensor goes straight
to the precision it will have, and whatever the file says that this module does not understand is refused rather than ignored.

Knows nothing about adapters, data or privacy.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from localsynth.errors import ConfigError, IntegrityError
from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.gguf_tensors import check_architecture, moves_rows, tensor_name, to_hf_layout
from localsynth.train.memory import trim_heap

Precision = Literal["fp32", "bf16", "nf4"]

_ROPE_FACTORS = "rope_freqs.weight"
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"


class BaseWeights:
    """The weights of a base model in its GGUF file, made into torch modules one at a time.

    Raises ConfigError where the architecture, or something in the file, is not supported.
    """

    def __init__(self, path: Path) -> None:
        self.file = GgufFile(path)
        self.architecture = check_architecture(self.file.value("general.architecture"))
        self.tied = _HEAD not in self.file.tensors
        self.config: Any = self._config()

    def _fact(self, key: str, default: Any = None) -> Any:
        value = self.file.value(f"{self.architecture}.{key}", default)
        if value is None:
            raise IntegrityError(f"{self.file.path} does not say its {key}.", "Choose another file of the model.")
        if isinstance(value, list):  # different blocks, as in pruned models
            raise ConfigError(f"{self.file.path}: {key} differs between blocks, which is not supported.", "Choose another model.")
        return value

    def _config(self) -> Any:
        """The transformers configuration that computes what llama.cpp computes for this file."""
        from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

        if _EMBEDDING not in self.file.tensors:
            raise IntegrityError(f"{self.file.path} has no weights.", "Choose a model file, not a vocabulary.")
        heads = self._fact("attention.head_count")
        facts = {
            "vocab_size": self.file.tensors[_EMBEDDING].shape[0],
            "hidden_size": self._fact("embedding_length"),
            "intermediate_size": self._fact("feed_forward_length"),
            "num_hidden_layers": self._fact("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._fact("attention.head_count_kv", heads),
            "head_dim": self._fact("attention.key_length", self._fact("embedding_length") // heads),
            "max_position_embeddings": self._fact("context_length"),
            "rms_norm_eps": self._fact("attention.layer_norm_rms_epsilon"),
            "tie_word_embeddings": self.tied,
            "bos_token_id": self.file.value("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.file.value("tokenizer.ggml.eos_token_id"),
            "pad_token_id": None,
            "use_cache": False,
        }
        if self._fact("rope.dimension_count", facts["head_dim"]) != facts["head_dim"]:
            raise ConfigError(
                f"{self.file.path} rotates only a part of each head, which is not supported.", "Choose another model."
            )
        rope = {"rope_type": "default", "rope_theta": self._fact("rope.freq_base", 10000.0)}
        if self.architecture == "gemma3":
            return Gemma3TextConfig(**facts, **self._gemma_facts(facts, rope))
        kind = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}[self.architecture]
        return kind(**facts, rope_parameters=rope)

    def _gemma_facts(self, facts: dict[str, Any], rope: dict[str, Any]) -> dict[str, Any]:
        """What Gemma 3 adds; llama.cpp's src/models/gemma3.cpp has the same defaults."""
        layers = facts["num_hidden_layers"]
        window = self._fact("attention.sliding_window", 0)
        period = self._fact("attention.sliding_window_pattern", 6)
        local = {"rope_type": "default", "rope_theta": self._fact("rope.freq_base_swa", 10000.0)}
        kinds = ["sliding_attention" if window and (layer + 1) % period else "full_attention" for layer in range(layers)]
        # 62 blocks are the 27B model, which alone scales by hidden size / heads instead of by the size of a head.
        scale = facts["hidden_size"] // facts["num_attention_heads"] if layers == 62 else facts["head_dim"]
        return {
            "layer_types": kinds,
            "sliding_window": window or None,
            "query_pre_attn_scalar": scale,
            "rope_parameters": {"full_attention": rope, "sliding_attention": local},
            "final_logit_softcapping": self._fact("final_logit_softcapping", 0.0) or None,
        }

    def skeleton(self, dtype: torch.dtype) -> Any:
        """The model without weights: parameters on the meta device, buffers (rotary frequencies) computed on the CPU."""
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config, dtype=dtype, attn_implementation="eager")
        # Created again outside of the meta device: no file holds buffers, so nothing else would fill them.
        model.model.rotary_emb = type(model.model.rotary_emb)(config=self.config)
        self._scale_rotation(model.model.rotary_emb)
        embedding = model.model.embed_tokens
        if hasattr(embedding, "embed_scale"):  # Gemma 3
            embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale)
        self._check_names(model)
        return model.eval()

    def _scale_rotation(self, rotary: nn.Module) -> None:
        """Divide the rotary frequencies as llama.cpp does: by the linear scaling factor, by Llama 3's tensor of factors."""
        kind = self._fact("rope.scaling.type", "linear")
        factor = self._fact("rope.scaling.factor", self._fact("rope.scale_linear", 0.0)) or 1.0
        if kind not in ("linear", "none"):
            raise ConfigError(
                f"{self.file.path} scales its context with {kind}, which is not supported.", "Choose another model."
            )
        divisor = torch.tensor(factor if kind == "linear" else 1.0)
        if _ROPE_FACTORS in self.file.tensors:
            divisor = divisor * torch.from_numpy(self.file.array(_ROPE_FACTORS))
        # Gemma 3's sliding layers are never scaled, so only its full-attention frequencies are.
        prefix = "full_attention_" if self.architecture == "gemma3" else ""
        if hasattr(rotary, f"{prefix}inv_freq"):
            for name in (f"{prefix}inv_freq", f"{prefix}original_inv_freq"):
                getattr(rotary, name).div_(divisor)

    def _gguf_name(self, hf_name: str) -> str:
        if hf_name == "lm_head.weight" and self.tied:
            return _EMBEDDING
        return tensor_name(self.architecture, self.config.num_hidden_layers, hf_name)

    def _check_names(self, model: nn.Module) -> None:
        """Every parameter has its tensor, of the right shape, and no tensor is left over."""
        tensors = self.file.tensors
        parameters = {self._gguf_name(name): parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
        for name, parameter in parameters.items():
            if name not in tensors or tensors[name].shape != tuple(parameter.shape):
                raise IntegrityError(
                    f"{self.file.path}: the tensor {name} is missing or has the wrong shape.", "Choose another file of the model."
                )
        if unknown := sorted(set(tensors) - set(parameters) - {_ROPE_FACTORS}):
            raise ConfigError(
                f"{self.file.path} has parts that localsynth does not know for {self.architecture}: {unknown[0]} and"
                f" {len(unknown) - 1} more.",
                "Choose another model; mixtures of experts and models with vision in the same file are not supported.",
            )

    def tensor(self, hf_name: str, dtype: torch.dtype) -> torch.Tensor:
        """One parameter on the CPU, dequantized part by part into `dtype`."""
        name = self._gguf_name(hf_name)
        heads = self.config.num_attention_heads, self.config.num_key_value_heads
        shape = self.file.tensors[name].shape
        if moves_rows(self.architecture, name):
            return torch.from_numpy(to_hf_layout(self.architecture, name, self.file.array(name), *heads)).to(dtype)
        result = torch.empty(shape, dtype=dtype)
        rows = result.view(self.file.tensors[name].rows, -1)
        for part, values in self.file.chunks(name):
            rows[part] = torch.from_numpy(to_hf_layout(self.architecture, name, values, *heads))
        return result

    def fill(self, module: nn.Module, prefix: str, dtype: torch.dtype, device: torch.device | str) -> None:
        """Give all parameters below `module`, whose name in the model is `prefix`, their values; frozen."""
        for inner_name, inner in module.named_modules():
            for leaf, _ in list(inner.named_parameters(recurse=False)):
                name = ".".join(part for part in (prefix, inner_name, leaf) if part)
                setattr(inner, leaf, nn.Parameter(self.tensor(name, dtype).to(device), requires_grad=False))


def _fill_nf4(weights: BaseWeights, layer: nn.Module, prefix: str, device: torch.device | str) -> None:
    """Fill a block with its linear layers in 4 bits (NF4, Dettmers et al. 2023, arXiv:2305.14314; scales quantized too)."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, linear in [item for item in layer.named_modules() if isinstance(item[1], nn.Linear)]:
        weight = weights.tensor(f"{prefix}.{name}.weight", torch.bfloat16)
        with torch.device("meta"):
            small = Linear4bit(
                linear.in_features,
                linear.out_features,
                bias=linear.bias is not None,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
            )
        small.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=small).to(
            device
        )
        if linear.bias is not None:
            bias = weights.tensor(f"{prefix}.{name}.bias", torch.bfloat16)
            small.bias = nn.Parameter(bias.to(device), requires_grad=False)
        parent, _, leaf = name.rpartition(".")
        setattr(layer.get_submodule(parent), leaf, small.eval())
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear) and list(module.parameters(recurse=False)):
            weights.fill(module, f"{prefix}.{name}", torch.bfloat16, device)


def load_base_model(path: Path, precision: Precision, device: torch.device | str = "cpu") -> Any:
    """The causal language model in the GGUF file `path`, frozen, in eval mode, on `device`: a transformers PreTrainedModel.

    `precision` is that of the weights: float32, bfloat16, or NF4 for the blocks' linear layers and bfloat16 for the rest. Never
    holds more than one tensor in float32. A tied output layer shares the embedding's storage.
    Raises ConfigError, IntegrityError.
    """
    weights = BaseWeights(path)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    model = weights.skeleton(dtype)
    inner = model.model
    weights.fill(inner.embed_tokens, "model.embed_tokens", dtype, device)
    weights.fill(inner.norm, "model.norm", dtype, device)
    for number, layer in enumerate(inner.layers):
        if precision == "nf4":
            _fill_nf4(weights, layer, f"model.layers.{number}", device)
        else:
            weights.fill(layer, f"model.layers.{number}", dtype, device)
        # Memory freed by converting a block lies between weights that stay, and would grow with the blocks.
        trim_heap()
    if weights.tied:
        model.lm_head.weight = inner.embed_tokens.weight
    else:
        weights.fill(model.lm_head, "lm_head", dtype, device)
    return model.to(device)
