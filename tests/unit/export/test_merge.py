"""The merged GGUF computes base + scale·B·A, says what the base said, and appears whole or not at all."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader

from localsynth.errors import IntegrityError
from localsynth.export import merge
from localsynth.export.merge import merge_adapter, merged_size, set_metadata
from localsynth.export.verify import mean_kl, probe_tokens
from localsynth.llm.adapter import Adapter, write_adapter
from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.llama_cpp import sequence_logits
from localsynth.train.base_model import load_base_model
from tests.helpers.tiny_model import ARCHITECTURES, random_adapter


def torch_merged_logits(base, pairs, scale, tokens):
    """Logits of the torch base model with W + scale·B·A in place of each adapted W."""
    model = load_base_model(base, "fp32")
    with torch.no_grad():
        for module, (a, b) in pairs.items():
            model.get_submodule(module).weight += scale * torch.from_numpy(b) @ torch.from_numpy(a)
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_merged_file_computes_what_torch_computes(tiny_model, tmp_path, architecture, tied):
    base, out = tiny_model(architecture=architecture, tied=tied), tmp_path / "merged.gguf"
    pairs = random_adapter(base)
    write_adapter(tmp_path / "adapter", pairs, 4, 8)
    merge_adapter(base, tmp_path / "adapter", out, {})
    tokens = probe_tokens(base)[:100]
    theirs = sequence_logits(out, tokens)
    assert mean_kl(torch_merged_logits(base, pairs, 2.0, tokens), theirs) < 2e-5
    # These would be taken for the right ones if the probe could not tell: half the scale, and no adapter at all.
    assert mean_kl(torch_merged_logits(base, pairs, 1.0, tokens), theirs) > 1e-3
    assert mean_kl(torch_merged_logits(base, {}, 1.0, tokens), theirs) > 1e-3
    assert ("output.weight" in GgufFile(out).tensors) is not tied


@pytest.mark.parametrize("target", ["q_proj", "k_proj"])
def test_query_and_key_are_permuted(tiny_model, tmp_path, monkeypatch, target):
    base, out = tiny_model(), tmp_path / "merged.gguf"
    pairs = {module: pair for module, pair in random_adapter(base, size=0.5).items() if module.endswith(target)}
    tokens = probe_tokens(base)[:100]
    reference = torch_merged_logits(base, pairs, 2.0, tokens)
    merge_adapter(base, Adapter(4, 8, pairs), out, {})
    assert mean_kl(reference, sequence_logits(out, tokens)) < 2e-5
    monkeypatch.setattr(merge, "from_hf_layout", lambda _architecture, _name, array, *_heads: array)
    merge_adapter(base, Adapter(4, 8, pairs), out, {})
    assert mean_kl(reference, sequence_logits(out, tokens)) > 1e-3


def test_a_quantized_base_is_dequantized_first(tiny_model, tmp_path):
    base, out = tiny_model(quantization=GGMLQuantizationType.Q4_1), tmp_path / "merged.gguf"
    pairs = random_adapter(base)
    merge_adapter(base, Adapter(4, 8, pairs), out, {})
    tokens = probe_tokens(base)[:100]
    assert mean_kl(torch_merged_logits(base, pairs, 2.0, tokens), sequence_logits(out, tokens)) < 2e-5


def test_types_metadata_and_order_are_those_expected(tiny_model, tmp_path):
    base, out = tiny_model(quantization=GGMLQuantizationType.Q8_0), tmp_path / "merged.gguf"
    merge_adapter(base, Adapter(4, 8, random_adapter(base)), out, {"localsynth.run": "7", "localsynth.note": ""})
    source, merged = GgufFile(base), GgufFile(out)
    assert list(merged.tensors) == list(source.tensors)
    for tensor in merged.tensors.values():
        matrix = len(tensor.shape) > 1
        assert tensor.kind == (GGMLQuantizationType.F16 if matrix else GGMLQuantizationType.F32)
    own = {"general.file_type", "general.quantization_version", "localsynth.run", "localsynth.note"}
    for key, raw in source.fields.items():
        assert key in own or merged.fields[key] == raw
    assert set(merged.fields) == set(source.fields) | own
    assert (merged.value("general.file_type"), merged.value("localsynth.run"), merged.value("localsynth.note")) == (1, "7", "")
    assert abs(merged_size(base) - out.stat().st_size) < 20_000
    # the gguf package agrees on the whole
    assert GGUFReader(out).get_field("tokenizer.ggml.tokens").contents() == source.value("tokenizer.ggml.tokens")


def test_merging_part_by_part_changes_nothing(tiny_model, tmp_path, monkeypatch):
    base = tiny_model()
    adapter = Adapter(4, 8, random_adapter(base))
    merge_adapter(base, adapter, tmp_path / "whole.gguf", {})
    chunks = GgufFile.chunks
    monkeypatch.setattr(GgufFile, "chunks", lambda self, name, elements=0: chunks(self, name, 64 * 7))
    merge_adapter(base, adapter, tmp_path / "parts.gguf", {})
    whole, parts = GgufFile(tmp_path / "whole.gguf"), GgufFile(tmp_path / "parts.gguf")
    for name in whole.tensors:  # a product of fewer rows may round differently in the last bit of F16
        np.testing.assert_allclose(parts.array(name), whole.array(name), rtol=1e-3, atol=1e-6)


def test_an_adapter_of_another_model_is_refused(tiny_model, tmp_path):
    base, out = tiny_model(), tmp_path / "merged.gguf"
    a, b = np.ones((2, 64), np.float32), np.ones((64, 2), np.float32)
    for module in ("model.layers.9.self_attn.q_proj", "lm_head", "nonsense"):  # tied: there is no lm_head of its own
        with pytest.raises(IntegrityError, match="does not have"):
            merge_adapter(base, Adapter(2, 2, {module: (a, b)}), out, {})
    with pytest.raises(IntegrityError, match="is 64 x 64"):
        merge_adapter(base, Adapter(2, 2, {"model.layers.0.self_attn.k_proj": (a, b)}), out, {})
    assert list(tmp_path.iterdir()) == []


def test_numbers_too_large_for_f16_leave_no_file(tiny_model, tmp_path):
    a, b = np.full((2, 64), 1e3, np.float32), np.full((64, 2), 1e3, np.float32)
    adapter = Adapter(2, 2, {"model.layers.1.self_attn.q_proj": (a, b)})
    with pytest.raises(IntegrityError, match="too large"):
        merge_adapter(tiny_model(), adapter, tmp_path / "merged.gguf", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0])
def test_set_metadata_changes_nothing_else(tiny_model, tmp_path, kind):
    base, path = tiny_model(quantization=kind), tmp_path / "model.gguf"
    path.write_bytes(base.read_bytes())
    for text in ("{}", '{"ε": 4.0}', "{}"):
        set_metadata(path, {"localsynth.certificate": text})
        source, read = GgufFile(base), GgufFile(path)
        assert read.value("localsynth.certificate") == text
        assert {key: raw for key, raw in read.fields.items() if not key.startswith("localsynth.")} == source.fields
        assert read.tensors == source.tensors
        for name in source.tensors:
            np.testing.assert_array_equal(read.raw(name), source.raw(name))
    tokens = probe_tokens(path)[:40]
    np.testing.assert_array_equal(sequence_logits(path, tokens), sequence_logits(base, tokens))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_the_bases_own_certificate_is_left_out(tiny_model, tmp_path):
    base = tmp_path / "base.gguf"
    base.write_bytes(tiny_model().read_bytes())
    set_metadata(base, {"localsynth.certificate": "{}"})
    merge_adapter(base, Adapter(2, 2, {}), tmp_path / "merged.gguf", {})
    assert not [key for key in GgufFile(tmp_path / "merged.gguf").fields if key.startswith("localsynth.")]


def test_only_our_own_keys_can_be_set(tiny_model, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model().read_bytes())
    with pytest.raises(ValueError, match="is not a key of localsynth"):
        set_metadata(path, {"general.name": "x"})
    assert path.read_bytes() == tiny_model().read_bytes()
