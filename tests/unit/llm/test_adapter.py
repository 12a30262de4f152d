"""An adapter comes back as it was written, and a damaged one is refused."""

import json

import numpy as np
import pytest

from localsynth.errors import IntegrityError
from localsynth.llm.adapter import Adapter, read_adapter, write_adapter

PAIRS = {
    "model.layers.0.self_attn.q_proj": (np.ones((2, 3), np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)),
    "model.layers.1.mlp.up_proj": (np.eye(2, 3, dtype=np.float32), np.zeros((5, 2), np.float32)),
}


def test_what_is_written_is_read(tmp_path):
    write_adapter(tmp_path / "adapter", PAIRS, 2, 6)
    adapter = read_adapter(tmp_path / "adapter")
    assert (adapter.rank, adapter.alpha, adapter.scale) == (2, 6, 3.0)
    assert set(adapter.pairs) == set(PAIRS)
    for module, (a, b) in PAIRS.items():
        np.testing.assert_array_equal(adapter.pairs[module][0], a)
        np.testing.assert_array_equal(adapter.pairs[module][1], b)
    assert json.loads((tmp_path / "adapter" / "adapter.json").read_text())["targets"] == ["q_proj", "up_proj"]


def test_an_adapter_without_effect_is_zero():
    zero = {"m": (np.ones((2, 3), np.float32), np.zeros((4, 2), np.float32))}
    assert Adapter(2, 2, zero).is_zero() and not Adapter(2, 2, PAIRS).is_zero()


@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    write_adapter(tmp_path, PAIRS, 2, 4)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(IntegrityError):
        read_adapter(tmp_path)


@pytest.mark.parametrize("facts", [{"rank": 4, "alpha": 4}, {"rank": 2}, {"rank": 0, "alpha": 4}, [], {"rank": "x", "alpha": 1}])
def test_facts_must_fit_the_factors(tmp_path, facts):
    write_adapter(tmp_path, PAIRS, 2, 4)
    (tmp_path / "adapter.json").write_text(json.dumps(facts))
    with pytest.raises(IntegrityError, match="damaged"):
        read_adapter(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    write_adapter(tmp_path, {"m": (np.full((1, 2), np.nan, np.float32), np.ones((2, 1), np.float32))}, 1, 1)
    with pytest.raises(IntegrityError, match="not finite"):
        read_adapter(tmp_path)


def test_a_factor_without_its_partner_is_refused(tmp_path):
    from safetensors.numpy import save

    write_adapter(tmp_path, PAIRS, 2, 4)
    (tmp_path / "adapter.safetensors").write_bytes(save({"m.lora_A": np.ones((2, 3), np.float32)}))
    with pytest.raises(IntegrityError, match="damaged"):
        read_adapter(tmp_path)
