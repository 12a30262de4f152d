"""Results as text for a person."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localsynth import presentation
from localsynth.results.plans import MembershipRisk, Risks
from tests.helpers.tui.planned import PLANNED, RISKS


@pytest.mark.parametrize(("synthesizer", "steps"), [("marginals", False), ("hybrid", True), ("llm", True)])
def test_a_plan_without_a_model_has_no_steps(synthesizer: str, steps: bool) -> None:
    alone = {"total": 1.0, "marginals": 1.0}
    plan = replace(PLANNED, synthesizer=synthesizer, epsilon=alone, noise_multiplier=1.4, device="cuda", micro_batch_tokens=2048)
    text = presentation.plan_text(plan if steps else replace(plan, adapters=None))
    assert ("steps" in text) == steps and "noise multiplier  1.400" in text
    assert ("on v, down (chosen by the noise multiplier, measured with some table)" in text) == steps
    assert ("2,048 tokens (GPU)" in text) == steps
    assert "at a false-positive rate of 0.1 %, 1 %, 5 %, a true-positive rate of at most 0.9 %, 5.1 %, 17 %" in text
    assert "from a base rate of 1 %, 10 %, 50 %, success of at most 5.1 %, 27 %, 74 %" in text


@given(value=st.floats(1e-3, 1))
def test_risks_are_rounded_up(value):
    """At two digits of them or, near certainty, of what is missing to it."""
    shown = presentation.risk_figures(Risks("curve", (MembershipRisk(0.01, value),), ()))[0].rsplit("at most ", 1)[1]
    percent = float(shown.removesuffix(" %"))
    assert 100 * value - 1e-6 <= percent <= 100
    assert percent - 100 * value <= 0.1 * max(1e-3, min(100 * value, 100 - 100 * value)) + 1e-6


@pytest.mark.parametrize(("basis", "more"), [("curve", 0), ("order", 1), ("epsilon and delta", 1)])
def test_sentences_of_risks_name_their_assumptions(basis, more):
    member, guess, *looser = presentation.risk_sentences(replace(RISKS, basis=basis))
    assert "wrongly takes 1 % of those outside" in member and "at most 5.1 %" in member and "knows every other row" in member
    assert "probability 10 % if its rows had not been used" in guess and guess.endswith("probability at most 27 %.")
    assert len(looser) == more and all("declared" in text for text in looser)
