"""Results as text for a person."""

import pytest

from localsynth import presentation


@pytest.mark.parametrize(("synthesizer", "steps"), [("marginals", False), ("hybrid", True), ("llm", True)])
def test_a_plan_without_a_model_has_no_steps(synthesizer: str, steps: bool) -> None:
    plan = {
        "units": 9, "units_origin": "declared", "training_units": 8, "synthesizer": synthesizer, "steps": 1, "batch_size": 8,
        "epsilon": {"total": 1.0, "marginals": 1.0}, "delta": 1e-6,
        "reserve_steps": 0, "noise_multiplier": 1.4, "seconds": {"train": 1.0, "export": 1.0, "sample": 1.0}, "rows_wanted": 8,
        "adapters": {"preset": "few", "layers": ["v_proj", "down_proj"], "measured": "some table"}, "device": "cuda",
        "micro_batch_tokens": 2048, "precision": "fp64", "memory_bytes": 1, "disk_bytes": 1, "free_disk_bytes": 1,
        "to_be_measured": [], "warnings": [],
    }  # fmt: skip
    text = presentation.plan_text(plan)
    assert ("steps" in text) == steps and "noise multiplier  1.400" in text
    assert ("on v, down (chosen by the noise multiplier, measured with some table)" in text) == steps
    assert ("2,048 tokens (GPU)" in text) == steps
