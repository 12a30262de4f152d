import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.marginals.bin_merging import CLEAR, MergedBins, merge_bins, onto_simplex
from localsynth.marginals.domain import Attribute, Domain
from localsynth.schema.columns import Category, Integer, Schema


def attribute(kind: str, bins: int, nullable: bool = False) -> Attribute:
    if kind == "ordinal":
        return Domain.of_schema(Schema(columns=[Integer(name="x", min=0, max=bins - 1, nullable=nullable)]))["x"]
    return Domain.of_schema(Schema(columns=[Category(name="x", values=[str(i) for i in range(bins)], nullable=nullable)]))["x"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["ordinal", "category"]),
    st.lists(st.floats(-300, 5000), min_size=1, max_size=40),
    st.booleans(),
    st.floats(0.1, 300),
    st.integers(2, 20),
)
def test_groups_partition_bins_and_separate_missing(
    kind: str, counts: list[float], nullable: bool, noise: float, most: int
) -> None:
    x = attribute(kind, len(counts), nullable)
    noisy = np.array(counts + ([10.0] if nullable else []))
    grouping = merge_bins(x, noisy, noise, most)
    groups = np.array(grouping.groups)
    assert sorted(set(grouping.groups)) == list(range(grouping.size))
    values = groups[: len(counts)]
    if kind == "ordinal":
        assert (np.diff(values) >= 0).all() and (np.diff(values) <= 1).all()
        assert len(set(values)) <= 2 * most + 1
    else:
        assert len(set(values)) <= most
    if nullable:
        assert (groups == groups[-1]).sum() == 1
    assert min(grouping.shares) >= 0
    np.testing.assert_allclose(np.bincount(groups, weights=grouping.shares), 1.0)
    assert MergedBins.from_json(grouping.to_json()) == grouping


def test_frequent_bins_stay_single_and_rare_ones_merge() -> None:
    counts = np.array([1000.0, 3.0, -5.0, 800.0, 12.0, 900.0])
    categories = merge_bins(attribute("category", 6), counts, 10.0, 24)
    assert categories.groups == (0, 3, 3, 1, 3, 2)
    neighbours = merge_bins(attribute("ordinal", 6), counts, 10.0, 24)
    assert len(set(neighbours.groups)) == 3
    assert all((np.array(neighbours.groups)[[0, 3, 5]]) == [0, 1, 2])


def test_long_tail_after_a_heavy_bin_keeps_several_groups() -> None:
    counts = np.array([30_000.0] + [60.0] * 40)
    groups = merge_bins(attribute("ordinal", 41), counts, 10.0, 16).groups
    assert groups.count(groups[0]) == 1
    assert 8 <= len(set(groups)) <= 17


def test_every_ordered_group_exceeds_its_noise() -> None:
    counts = np.random.default_rng(0).normal(0, 50, 60) + np.r_[np.zeros(30), np.full(30, 400.0)]
    grouping = merge_bins(attribute("ordinal", 60), counts, 50.0, 12)
    assert (grouping.sums(counts) >= CLEAR * 50.0).all()


def test_shares_follow_counts_without_noise_of_empty_bins() -> None:
    grouping = merge_bins(attribute("category", 5), np.array([5000.0, 28.0, 14.0, -20.0, 1.0]), 30.0, 24)
    assert grouping.shares[0] == 1.0
    assert grouping.shares[1] > grouping.shares[2] > grouping.shares[3] == 0.0


@pytest.mark.parametrize("total", [0.5, 10.0, 1000.0])
def test_nearest_point_of_the_simplex(total: float) -> None:
    counts = np.array([4.0, -3.0, 0.5, 2.0])
    ours = onto_simplex(counts, total)
    assert ours.sum() == pytest.approx(total) and ours.min() >= 0
    others = np.random.default_rng(0).dirichlet(np.ones(4), 2000) * total
    assert ((ours - counts) ** 2).sum() <= ((others - counts) ** 2).sum(axis=1).min()
