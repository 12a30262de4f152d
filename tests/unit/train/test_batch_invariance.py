"""On the real model in bf16: one unit's presence must not change how the others' gradients are rounded."""

import math
from contextlib import nullcontext

import pytest
import torch

from localsynth.config import TrainConfig
from localsynth.errors import ResourceError
from localsynth.llm.base_models import find_base_model
from localsynth.llm.row_text import Encoded
from localsynth.privacy.account import Account
from localsynth.privacy.noise import SecureRandom
from localsynth.system.files import model_directory
from localsynth.train.batch_invariance import max_attention_change, max_gradient_change, tolerance
from localsynth.train.lora_layer import LoraLinear
from localsynth.train.model import build_model
from localsynth.train.plan import make_train_plan
from localsynth.train.private_gradients import HEADROOM, PrivateGradients

C = 1.0
SETTINGS = TrainConfig(epochs=1, batch_size=4, rank=4, device="cpu", precision="bf16")


@pytest.mark.model
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_unit_that_regroups_others_moves_the_sum_by_at_most_c(precision):
    if not any(model_directory().glob("*.gguf")):
        pytest.skip("the base model is not here: make model")
    base = find_base_model(TrainConfig().model)
    model = build_model(base.path, 4, 8, ["q_proj", "v_proj", "down_proj"], precision, "cpu", seed=0)
    torch.manual_seed(0)
    private = PrivateGradients(model, C)
    with torch.no_grad():
        for weight in private.weights:
            weight += 0.02 * torch.randn_like(weight)

    def unit(length):
        tokens = torch.randint(100, 40_000, (length,)).tolist()
        return [Encoded(tokens, [False] + [True] * (length - 1))]

    def clipped_sum(units, budget):
        total = private.new_sum()
        for micro in private.micro_batches(units, budget):
            private.add(total, micro)
        return total.gradient.double()

    # As tight a fit as it gets: with everything padded to the longest, one row more splits the group in two.
    others, one = [unit(10 + i % 3) for i in range(11)] + [unit(28)], unit(11)
    budget = 12 * 28
    whole, without, alone = (clipped_sum(units, budget) for units in ([*others, one], others, [one]))
    assert float((whole - without).norm()) <= C
    assert float((whole - without - alone).norm()) <= 1e-3 * C


def test_cpu_without_batch_invariant_bf16_trains_in_fp32(tiny_model, tmp_path, monkeypatch):
    from localsynth.train import loop

    measured, events = [], []

    def change(private, token_budget):
        precision = next(private.model.language_model.parameters()).dtype
        measured.append((precision, token_budget))
        return 1e-5 if precision in dependent else 0.0

    monkeypatch.setattr(loop, "max_gradient_change", change)
    plan = make_train_plan(SETTINGS, 8, Account(8.0, 1e-6).noise)
    given = {
        "load_units": list,
        "base": tiny_model(),
        "targets": ["q_proj"],
        "micro_batch_tokens": 128,
        "plan": plan,
        "random": SecureRandom(),
        "emit": events.append,
    }
    given |= {"charge_step": lambda: 0.0, "should_stop": lambda: False, "settings": SETTINGS}
    dependent = {torch.bfloat16}
    assert loop.train(**given, run_directory=tmp_path / "one").precision == "fp32"
    assert measured == [(torch.bfloat16, 128), (torch.float32, 128)]
    assert "fp32" in next(event["text"] for event in events if event["kind"] == "warning")
    dependent.add(torch.float32)
    with pytest.raises(ResourceError, match="would break the guarantee"):
        loop.train(**given, run_directory=tmp_path / "two")


@pytest.mark.parametrize(("batch_size", "refused"), [(200, False), (100_000, True)])
def test_the_accepted_change_shrinks_with_the_batch(tiny_model, tmp_path, monkeypatch, batch_size, refused):
    """Last digits of float32, all changed in one direction: a large batch would add them up to more than the headroom."""
    from localsynth.train import loop

    monkeypatch.setattr(loop, "max_gradient_change", lambda private, token_budget: 5e-7)
    settings = SETTINGS.model_copy(update={"batch_size": batch_size, "precision": "fp32"})
    with pytest.raises(ResourceError, match="would break the guarantee") if refused else nullcontext():
        loop.train(
            load_units=list,
            base=tiny_model(),
            targets=["q_proj"],
            micro_batch_tokens=64,
            plan=make_train_plan(settings, 2 * batch_size, Account(8.0, 1e-6).noise),
            settings=settings,
            charge_step=lambda: 0.0,
            random=SecureRandom(),
            run_directory=tmp_path,
            emit=lambda event: None,
            should_stop=lambda: False,
        )


@pytest.mark.parametrize("batch_size", [1, 32, 1024, 65_536, 262_144])
def test_all_accepted_changes_stay_within_the_headroom(batch_size):
    assert 2 * batch_size * tolerance(batch_size) <= HEADROOM / 2


@pytest.fixture
def on_gpu(tiny_model, tmp_path, monkeypatch):
    """Trains as on a GPU where the test of row counts finds `change`; returns the precision and the tests."""
    from localsynth.train import loop

    def on_cpu(*given, seed):
        *others, _device = given
        return honest(*others, "cpu", seed=seed)  # type: ignore[call-arg]

    honest = loop.build_model
    monkeypatch.setattr(loop, "build_model", on_cpu)
    for name in ("memory_held", "peak_memory"):
        monkeypatch.setattr(loop, name, lambda device: 0)

    def run(precision, change, device="cuda"):
        tests = []

        def test(private, token_budget):
            number_format = next(private.model.language_model.parameters()).dtype
            tests.append((number_format, private.model.attention_in_float32))
            return change(*tests[-1])

        monkeypatch.setattr(loop, "choose_device", lambda wanted: device)
        monkeypatch.setattr(loop, "max_attention_change", test)
        result = loop.train(
            load_units=list,
            base=tiny_model(),
            targets=["q_proj"],
            micro_batch_tokens=64,
            plan=make_train_plan(SETTINGS, 8, Account(8.0, 1e-6).noise),
            settings=SETTINGS.model_copy(update={"precision": precision}),
            charge_step=lambda: 0.0,
            random=SecureRandom(),
            run_directory=tmp_path / str(len(list(tmp_path.iterdir()))),
            emit=lambda event: None,
            should_stop=lambda: False,
        )
        return result.precision, tests

    return run


def test_numbers_of_rows_are_tested_on_a_gpu_only(on_gpu):
    assert on_gpu("fp32", lambda *_: 1e-7) == ("fp32", [(torch.float32, False)])
    assert on_gpu("fp32", lambda *_: 1.0, device="cpu") == ("fp32", [])


@pytest.mark.parametrize("too_much", [1e-5, math.nan])
def test_gpu_without_batch_invariance_is_refused(on_gpu, too_much):
    """NaN counts as a large change."""
    with pytest.raises(ResourceError, match="would break the guarantee"):
        on_gpu("fp32", lambda *_: too_much)


def test_gpu_tries_attention_in_float32_first(on_gpu):
    first = [(torch.bfloat16, False), (torch.bfloat16, True)]
    assert on_gpu("bf16", lambda number_format, in_float32: 0.0 if in_float32 else 1.0) == ("bf16", first)
    all_of_it = [*first, (torch.float32, False)]
    assert on_gpu("bf16", lambda number_format, _: 0.0 if number_format == torch.float32 else 1.0) == ("fp32", all_of_it)


def test_attention_in_float32_is_the_same_attention(tiny_model):
    model = build_model(tiny_model(), 4, 8, ["q_proj"], "bf16", "cpu", seed=0)
    private = PrivateGradients(model, C)
    units = [[Encoded(list(range(3, 20 + i)), [True] * (17 + i))] for i in range(5)]
    (micro,) = private.micro_batches(units, 200)
    gradients = []
    for model.attention_in_float32 in (False, True):
        found, factors, _, _ = private.clipped(micro)
        gradients.append(found * factors[:, None])
    change = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 0 < change < 0.05


def test_dependence_on_other_rows_is_detected(tiny_model, monkeypatch):
    private = PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj", "down_proj"], "fp32", "cpu", seed=0), C)
    assert max_gradient_change(private, 128) <= 1e-6
    assert all(bool((weight == 0).all()) for weight in private.weights), "as it was"
    forward = LoraLinear.forward
    with monkeypatch.context() as patched:  # products in which what stands in the first row scales all others
        patched.setattr(LoraLinear, "forward", lambda layer, x: forward(layer, x) * (1 + 1e-4 * float((x[0, 0] > 0).sum() % 7)))
        assert max_gradient_change(private, 128) > 1e-6

    def leaking(layer, x):  # the same in the adapter's product alone, which with fresh adapters is zero
        scale = 1 + 1e-2 * float((x[0, 0] > 0).sum() % 7)
        base = layer.base(x)
        return base + scale * (forward(layer, x) - base)

    monkeypatch.setattr(LoraLinear, "forward", leaking)
    assert max_gradient_change(private, 128) > 1e-6


def test_dependence_on_the_number_of_rows_is_detected(tiny_model, monkeypatch):
    """As a library that takes another kernel for one number of products: in the forward pass, or for the gradients alone."""
    from localsynth.train import attention

    private = PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj"], "fp32", "cpu", seed=0), C)
    assert max_attention_change(private, 128) <= 1e-6
    put = attention._put_queries

    def other_kernel(into, group, sharing, values):
        put(into, group, sharing, values * (1.001 if (group.width, group.rows) == (16, 5) and sharing == wrong else 1.0))

    monkeypatch.setattr(attention, "_put_queries", other_kernel)
    wrong = 2  # queries share a key by twos
    assert max_attention_change(private, 128) > 1e-6
    wrong = 1  # the gradients of keys and values
    assert max_attention_change(private, 128) > 1e-6
    wrong = None
    assert max_attention_change(private, 128) <= 1e-6


def test_tested_widths_are_those_that_rows_have(tiny_model, monkeypatch):
    from localsynth.train import batch_invariance

    tried = []
    monkeypatch.setattr(
        batch_invariance, "attention_change", lambda heads, key_heads, size, widths, *others: tried.extend(widths) or 0.0
    )
    max_attention_change(PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj"], "fp32", "cpu", seed=0), C), 60)
    assert tried == [16, 32, 48]


def test_masks_do_not_pile_up_over_a_batch(tiny_model):
    private = PrivateGradients(build_model(tiny_model(), 4, 8, ["q_proj"], "fp32", "cpu", seed=0), C)
    micros = private.micro_batches([[Encoded([1] * 20, [True] * 20)]] * 8, 64)
    assert len(micros) > 1
    total = private.new_sum()
    for micro in micros:
        private.add(total, micro)
        assert not micro.masks
