"""The verification tells a right export from a wrong one."""

import numpy as np
import pytest
import torch

from localsynth.config import SampleConfig
from localsynth.errors import IntegrityError
from localsynth.export.merge import merge_adapter
from localsynth.export.verify import (
    KL_LIMITS,
    check_adapter_arrived,
    mean_kl,
    probe_tokens,
    reference_logits,
    verify_base,
    verify_export,
)
from localsynth.llm.adapter import Adapter
from localsynth.llm.llama_cpp import Vocabulary, quantize, sequence_logits
from localsynth.train.base_model import load_base_model
from tests.helpers.tiny_model import ARCHITECTURES, random_adapter


def test_mean_kl_of_known_distributions():
    p, q = np.log(np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)), np.log(np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))
    expected = 0.5 * (0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert mean_kl(p, q) == pytest.approx(expected, rel=1e-5)
    assert mean_kl(p, q + 100) == pytest.approx(expected, rel=1e-3)  # a shift of all logits means nothing
    assert mean_kl(p, p) == 0


def test_every_quantization_has_a_limit():
    assert {"auto", *KL_LIMITS} == set(SampleConfig.model_fields["quantization"].annotation.__args__)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_has_logits_of_base_and_adapted_model(tiny_model, architecture, tied):
    base = tiny_model(architecture=architecture, tied=tied)
    pairs = random_adapter(base)
    tokens = probe_tokens(base)[:50]
    before, after = reference_logits(base, Adapter(4, 8, pairs), tokens)
    model = load_base_model(base, "fp32")
    with torch.no_grad():
        np.testing.assert_allclose(before, model(torch.tensor([tokens])).logits[0], atol=1e-4)
        for module, (a, b) in pairs.items():
            model.get_submodule(module).weight += 2.0 * torch.from_numpy(b) @ torch.from_numpy(a)
        np.testing.assert_allclose(after, model(torch.tensor([tokens])).logits[0], atol=1e-4)


def test_the_reference_holds_one_block_at_a_time(tiny_model, monkeypatch):
    from localsynth.train.base_model import BaseWeights

    held, most = [], []
    fill = BaseWeights.fill

    def watched(self, module, prefix, dtype, device):
        fill(self, module, prefix, dtype, device)
        held.append(module)
        most.append(sum(not parameter.is_meta for part in held for parameter in part.parameters()))

    monkeypatch.setattr(BaseWeights, "fill", watched)
    base = tiny_model(architecture="gemma3")
    reference_logits(base, Adapter(4, 8, random_adapter(base)), probe_tokens(base)[:20])
    assert len(held) == 9 and max(most) == 13  # embedding, six blocks of 13 tensors, norm, output


@pytest.mark.parametrize("module", ["model.layers.7.self_attn.q_proj", "model.norm"])
def test_a_foreign_adapter_has_no_reference(tiny_model, module):
    adapter = Adapter(2, 2, {module: (np.ones((2, 64), np.float32), np.ones((64, 2), np.float32))})
    with pytest.raises(IntegrityError, match=module):
        reference_logits(tiny_model(), adapter, [1, 2, 3])


@pytest.mark.parametrize("quantization", KL_LIMITS)
def test_each_type_passes_when_right(tiny_model, tmp_path, quantization):
    base = tiny_model()
    adapter = Adapter(4, 8, random_adapter(base))
    tokens = probe_tokens(base)
    _, reference = reference_logits(base, adapter, tokens)
    merge_adapter(base, adapter, tmp_path / "f16.gguf", {})
    quantize(tmp_path / "f16.gguf", tmp_path / "out.gguf", quantization, 1)
    assert verify_export(reference, tmp_path / "out.gguf", quantization, tokens) <= KL_LIMITS[quantization]


def test_wrong_exports_fail(tiny_model, tmp_path):
    base, out = tiny_model(), tmp_path / "out.gguf"
    pairs = random_adapter(base)
    tokens = probe_tokens(base)
    before, reference = reference_logits(base, Adapter(4, 8, pairs), tokens)
    merge_adapter(base, Adapter(4, 12, pairs), out, {})  # another scale
    with pytest.raises(IntegrityError, match="does not compute what was trained"):
        verify_export(reference, out, "F16", tokens)
    with pytest.raises(IntegrityError, match="does not compute what was trained"):
        verify_export(np.full_like(reference, np.nan), out, "Q4_0", tokens)
    assert mean_kl(before, reference) > 1e-3


def test_a_lost_small_adapter_is_detected(tiny_model, tmp_path):
    base, out = tiny_model(), tmp_path / "out.gguf"
    pairs = random_adapter(base, size=0.001)
    small, zero = Adapter(4, 8, pairs), Adapter(4, 8, random_adapter(base, size=0))
    tokens = probe_tokens(base)
    before, reference = reference_logits(base, small, tokens)
    merge_adapter(base, zero, out, {})
    lost = verify_export(reference, out, "F16", tokens)  # too small a difference for the limit alone
    with pytest.raises(IntegrityError, match="as far from the trained model as the base"):
        check_adapter_arrived(before, reference, lost, small)
    merge_adapter(base, small, out, {})
    shift = check_adapter_arrived(before, reference, verify_export(reference, out, "F16", tokens), small)
    assert 1e-4 < shift < 1e-3


def test_a_nonzero_adapter_without_effect_is_an_error(tiny_model):
    same = np.zeros((2, 3), np.float32)
    pair = (np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))
    assert check_adapter_arrived(same, same, 0.0, Adapter(1, 1, {})) == 0
    with pytest.raises(IntegrityError, match="does not change the model"):
        check_adapter_arrived(same, same, 0.0, Adapter(1, 1, {"m": pair}))


def test_probes_fit_the_context_and_begin_with_bos(tiny_model):
    tokens = probe_tokens(tiny_model())
    with Vocabulary(tiny_model()) as vocabulary:
        assert len(tokens) == 384 and b"The ferry" in b"".join(vocabulary.piece(token) for token in tokens[:20])


def test_a_base_that_torch_misreads_is_refused(tiny_model, monkeypatch):
    assert verify_base(tiny_model()) < 1e-4
    monkeypatch.setattr("localsynth.export.verify.sequence_logits", lambda path, tokens: sequence_logits(path, tokens)[:, ::-1])
    with pytest.raises(IntegrityError, match="disagree"):
        verify_base(tiny_model())
