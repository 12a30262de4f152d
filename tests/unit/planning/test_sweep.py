"""What each epsilon buys: one row by hand, and the real mechanisms beside the estimate."""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from localsynth.config import Config, DataConfig, PrivacyConfig, Synthesizer, TrainConfig
from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.marginals.measure_transitions import measure_sequences
from localsynth.marginals.transitions import Layout
from localsynth.planning import sweep as sweep_module
from localsynth.planning.budgets import account_of, shares_of
from localsynth.planning.forecast import Size
from localsynth.planning.sweep import EPSILONS, MEASURED, sweep
from localsynth.presentation import sweep_text
from localsynth.privacy.accountant import dp_sgd_step
from localsynth.privacy.gaussian import rho_for
from localsynth.results.plans import Sweep
from localsynth.schema.columns import Boolean, Category, Column, Identifier, Integer, Schema, Text
from tests.helpers.seeded_random import InsecureRandom

ROOT = Path(__file__).parents[3]
TEXT = Text(name="note")
LIST = Category(name="kind")
BOUNDED = Integer(name="n", min=0, max=9)
SIZE = Size(1000, 900, 1000)


def config(columns: list[Column], **privacy: Any) -> Config:
    return Config(
        data=DataConfig(source="absent.csv"),
        schema=Schema(columns=columns),
        privacy=PrivacyConfig(**{"public_size": 1000, **privacy}),
        train=TrainConfig(max_grad_norm=0.5),
    )


def swept(wanted: Config) -> Sweep:
    return sweep(wanted, wanted.schema_, "declared", SIZE)


@pytest.fixture(scope="module")
def hybrid() -> Sweep:
    return swept(config([LIST, BOUNDED, TEXT]))


def test_a_row_by_hand(hybrid: Sweep) -> None:
    """At ε = 2 and δ = 1e-5, with a fifth for marginals, and a quarter of ε and a twentieth of δ for the list."""
    row = next(row for row in hybrid.rows if row.epsilon == 2)
    rho = rho_for(0.2 * 2, 0.2 * 1e-5)
    # Three columns, the length of the text among them, which two pairs link, with 90 % of 40 % of what is left.
    assert row.single is not None and row.pair is not None
    assert row.single.rows == pytest.approx(math.sqrt(3 / (2 * 0.15 * rho)))
    assert row.pair.rows == pytest.approx(math.sqrt(2 / (2 * 0.85 * 0.9 * 0.4 * rho)))
    assert (row.single.share, row.pair.share) == (row.single.rows / 900, row.pair.rows / 900)
    # Rounded Gaussian noise takes a value of one row to the threshold with at most the list's δ.
    deviation = 1 / math.sqrt(2 * rho_for(0.25 * 2, 1e-5))
    assert row.list_threshold is not None
    thresholds = (row.list_threshold, row.list_threshold - 1)
    reached = [0.5 * math.erfc((threshold - 1.5) / deviation / math.sqrt(2)) for threshold in thresholds]
    assert reached[0] <= 0.05 * 1e-5 < reached[1]
    wanted = config([LIST, BOUNDED, TEXT], epsilon=2)
    shares, account = shares_of(wanted), account_of(wanted, 900, 0.0)
    assert row.noise_multiplier is not None

    def fits(noise: float) -> bool:
        steps = {"type": "repeated", "count": 40 + 2, "of": dp_sgd_step(noise, 0.1)}
        return account.fits([*shares.schema, *shares.counts, steps])

    assert fits(row.noise_multiplier) and not fits(0.995 * row.noise_multiplier)
    assert row.step_noise == row.noise_multiplier * 0.5 / 90
    assert (hybrid.steps, hybrid.batch_size) == (40, 90)


def test_errors_and_noise_fall_with_epsilon(hybrid: Sweep) -> None:
    assert tuple(row.epsilon for row in hybrid.rows) == EPSILONS and not hybrid.left_out
    for smaller, larger in pairwise(hybrid.rows):
        assert smaller.single and smaller.pair and smaller.list_threshold and smaller.noise_multiplier and smaller.step_noise
        assert larger.single and larger.pair and larger.list_threshold and larger.noise_multiplier and larger.step_noise
        assert smaller.single.rows > larger.single.rows and smaller.pair.rows > larger.pair.rows
        assert smaller.list_threshold > larger.list_threshold
        assert smaller.noise_multiplier > larger.noise_multiplier and smaller.step_noise > larger.step_noise


@pytest.mark.parametrize("count", [1, 2, 21])
def test_counts_have_the_noise_that_is_measured(count: int) -> None:
    """The first table of each kind; all pairs have as many cells."""
    wanted = config([Boolean(name=f"b{i}", nullable=False) for i in range(count)], epsilon=4)
    row = next(row for row in swept(wanted).rows if row.epsilon == 4)
    rho = account_of(wanted, 900, 0.0).rho([])
    domain = Domain.of_schema(wanted.schema_)
    codes = {name: np.zeros(900, dtype=np.int64) for name in domain.names}
    measured = measure_marginals(domain, codes, rho, InsecureRandom(0), MarginalSettings()).measured
    assert row.single is not None and row.single.rows == pytest.approx(measured[0].sigma, rel=1e-6)
    if count == 1:
        assert row.pair is None
    else:
        assert row.pair is not None and row.pair.rows == pytest.approx(measured[count].sigma, rel=1e-6)


@pytest.mark.parametrize("more", [0, 20])
def test_counts_of_sequences_have_the_noise_that_is_measured(more: int) -> None:
    columns: list[Column] = [Identifier(name="who"), Integer(name="day", min=0, max=30), Integer(name="n", min=0, max=99)]
    columns += [Boolean(name=f"b{i}", nullable=False) for i in range(more)]
    wanted = config(columns, epsilon=4, unit="who", max_rows_per_unit=3)
    wanted = wanted.model_copy(update={"data": wanted.data.model_copy(update={"sequence_by": "day"})})
    found = swept(wanted)
    row = next(row for row in found.rows if row.epsilon == 4)
    layout = Layout.of_schema(wanted.schema_, "day", 3)
    units = [[{"day": d, "n": d, **{f"b{i}": True for i in range(more)}} for d in (1, 2)] for _ in range(20)]
    rho, settings = account_of(wanted, 900, 0.0).rho([]), MarginalSettings(rows_per_unit=3)
    measured = measure_sequences(layout, layout.encode(units), rho, InsecureRandom(0), settings).transitions.measured
    pairs = [m for m in measured if len(m.names) == 2 and m.names != ("(rows before)", "(last row)")]
    assert row.single is not None and row.pair is not None
    assert row.single.rows == pytest.approx(measured[0].sigma, rel=1e-6)
    links = pairs[: len(layout.columns.names)]
    # Of the pairs that link the columns, those with more cells have less noise, and together they cost as much.
    together = sum(1 / pair.sigma**2 for pair in links)
    assert row.pair.rows == pytest.approx(math.sqrt(len(links) / together), rel=1e-6)


def test_texts_alone_have_no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "EPSILONS", (8.0,))
    (row,) = swept(config([TEXT])).rows
    assert row.single is None and row.pair is None and row.list_threshold is None and row.noise_multiplier


def test_an_epsilon_that_the_schema_takes_is_left_out() -> None:
    found = swept(config([LIST, BOUNDED], schema_epsilon=1))
    assert found.left_out == (0.5, 1.0) and [row.epsilon for row in found.rows] == [2, 4, 8, 16]
    assert "Left out: epsilon 0.5, 1" in " ".join(sweep_text(found).split())


def test_scores_are_those_of_the_lab_notes() -> None:
    assert set(MEASURED) == set(get_args(Synthesizer))
    adapters, marginals = ((ROOT / "docs/lab" / f"{name}.md").read_text() for name in ("adapters", "marginals"))
    for reference, table in zip(MEASURED["hybrid"], ("4,574 messages", "9,003 questions"), strict=True):
        rows = re.findall(rf"^\| {table} \| (\d+) \|.*\(([\d.]+)\) \|$", adapters, re.MULTILINE)
        assert table in reference.what and reference.by_epsilon == {float(e): float(share) for e, share in rows}
    (adult,) = MEASURED["marginals"]
    original, ours = re.search(r"it has an AUC of ([\d.]+)\.", marginals), re.search(r"^\| AIM \| ([\d.]+)", marginals, re.M)
    assert original and ours and adult.by_epsilon == {1.0: round(float(ours[1]) / float(original[1]), 2)}


def test_text_states_what_it_assumes(hybrid: Sweep) -> None:
    text = sweep_text(hybrid)
    header, *rows = text.splitlines()[:7]
    assert header.split() == ["epsilon", "single", "pair", "lists", "noise", "step", "measured"]
    assert len({len(row) for row in (header, rows[1])}) == 1 and max(map(len, text.splitlines())) <= 68
    assert rows[1].endswith("0.73, 0.52") and rows[4].endswith("0.80, 0.58") and rows[0].split()[0] == "0.5"
    flat = " ".join(text.split())
    assert "about 1,000 units (declared), 900 to train on; delta 1e-05; hybrid" in flat
    assert "15% is for 3 tables of single columns, 31% for 2 of pairs" in flat
    assert "clipping norm 0.5 / batch size 90" in flat and flat.endswith("Nothing was read or spent.")
    few = sweep_text(swept(config([BOUNDED], unit="n", max_rows_per_unit=3)))
    assert few.splitlines()[0].split() == ["epsilon", "single", "measured"] and "of at most 3 rows each" in few
