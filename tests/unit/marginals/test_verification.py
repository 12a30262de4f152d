"""A file of sequences that measured more than its certificate's ledger paid for, or something else, is found out."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from localsynth.marginals.measure import MarginalSettings
from localsynth.marginals.measure_transitions import measure_sequences
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.marginals.transitions import EARLIER, LAST, Layout, as_before, before
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.schema.columns import Category, Integer, Record, Schema
from localsynth.verification.marginals import what_is_wrong
from tests.helpers.seeded_random import InsecureRandom

MOST, RHO = 3, 0.5
SCHEMA = Schema(
    columns=[
        Category(name="what", values=["salary", "rent", "card"]),
        Integer(name="born", min=1920, max=2009),
        Integer(name="day", min=0, max=99, nullable=False),
    ]
)
NEXT = {"salary": "rent", "rent": "card", "card": "salary"}
Tree = dict[str, Any]


def units() -> list[list[Record]]:
    found = []
    for i in range(400):
        what, rows = list(NEXT)[i % 3], []
        for place in range(1 + i % 2):
            rows.append({"what": what, "born": 1920 + i % 90, "day": i % 50 + 7 * place})
            what = NEXT[what]
        found.append(rows)
    return found


def measured(most: int = MOST, order: str = "day", bound: int = MOST, schema: Schema = SCHEMA) -> Tree:
    """What `bound` (the rows that noise is drawn for) and the layout ask for, as the file holds it."""
    layout = Layout.of_schema(schema, order, most)
    settings = MarginalSettings(rows_per_unit=bound)
    return measure_sequences(layout, layout.encode(units()), RHO, InsecureRandom(1), settings).to_json()


@pytest.fixture(scope="module")
def honest() -> Tree:
    return measured()


DOCUMENT: Tree = {
    "schema": SCHEMA.model_dump(mode="json"),
    "settings": {"data": {"sequence_by": "day"}},
    "guarantee": {"max_rows_per_unit": MOST, "noise": InsecureRandom(0).label},
    "ledger": {
        "events": [
            {"kind": "spend", "budget": "r", "what": "marginals", "run": "r", "mechanism": gaussian_of_rho(RHO)},
        ]
    },
}


def found_in(tree: Tree, document: Tree = DOCUMENT) -> str:
    return what_is_wrong(SequenceModel.from_json(json.loads(json.dumps(tree))), document)


def test_honest_marginals_match_their_charges(honest: Tree) -> None:
    assert found_in(honest) == ""
    kinds = [spend["kind"] for spend in honest["spends"]]
    assert "distances" in kinds and kinds.count("gaussian") == len(honest["measured"]) + 1, "distances, and counts that stayed"


def _spend(tree: Tree, columns: tuple[str, ...]) -> Tree:
    found: Tree = next(spend for spend in tree["spends"] if tuple(spend["columns"]) == columns)
    return found


def _quieter(entry: Tree, key: str) -> None:
    entry[key] *= 0.9


def _all_quieter(tree: Tree) -> None:
    for spend in tree["spends"]:
        spend["parameter"] *= 0.5 if spend["kind"] == "gaussian" else 1.0
    for count in (*tree["measured"], *tree["sequence"]["repeated"]):
        count["sigma"] *= 0.5


def _counted_without_a_spend(tree: Tree) -> None:
    pair = tree["measured"][-1]
    tree["spends"].remove(_spend(tree, tuple(pair["columns"])))


def _potential_of_more(tree: Tree) -> None:
    sizes = {name: max(grouping["groups"]) + 1 for name, grouping in tree["merged_bins"].items()}
    names = [before("what"), before("born")]
    tree["potentials"].append({"columns": names, "logarithms": [[0.0] * sizes[names[1]]] * sizes[names[0]]})


def _distances_more(tree: Tree) -> None:
    # With the most noise there can be: in the sum it is not seen.
    for _ in range(2):
        tree["spends"].append({"kind": "distances", "parameter": 1e11, "columns": []})


def _distances_of_columns(tree: Tree) -> None:
    next(spend for spend in tree["spends"] if spend["kind"] == "distances")["columns"] = ["what"]


def _single_one_twice(tree: Tree) -> None:
    """The count of one column taken for that of another, and paid for as such."""
    single = [count for count in tree["measured"] if len(count["columns"]) == 1]
    spends = [spend for spend in tree["spends"] if len(spend["columns"]) == 1]
    tree["measured"][:2] = [single[1], single[0]]
    tree["spends"][:2] = [spends[1], spends[0]]


CHARGED = "not those that were charged"
NOISE = "noise of its counts"
FITTED = "fitted to something else"
CHOSEN = "not those that were chosen"
MORE = "More was measured"

TAMPERED: dict[str, tuple[Callable[[Tree], object], str]] = {
    "no spends": (lambda tree: tree.update(spends=[]), CHARGED),
    "the spend of a column less": (lambda tree: tree["spends"].remove(_spend(tree, ("what",))), CHARGED),
    "the spend of the places less": (lambda tree: tree["spends"].remove(_spend(tree, (EARLIER, LAST))), CHARGED),
    "the spend of what stayed less": (lambda tree: tree["spends"].remove(_spend(tree, (as_before("born"),))), CHARGED),
    "the spend of a pair less": (_counted_without_a_spend, CHARGED),
    "less noise charged for a column": (lambda tree: _quieter(_spend(tree, ("what",)), "parameter"), NOISE),
    "less noise charged for the places": (lambda tree: _quieter(_spend(tree, (EARLIER, LAST)), "parameter"), NOISE),
    "less noise drawn for a column": (lambda tree: _quieter(tree["measured"][0], "sigma"), NOISE),
    "less noise drawn for a pair": (lambda tree: _quieter(tree["measured"][-1], "sigma"), NOISE),
    "less noise drawn for what stayed": (lambda tree: _quieter(tree["sequence"]["repeated"][0], "sigma"), NOISE),
    "less noise everywhere, and said": (_all_quieter, MORE),
    "columns that were counted in another's place": (_single_one_twice, "Not each of its columns"),
    "distances that nothing came of": (_distances_more, CHOSEN),
    "distances that say of what": (_distances_of_columns, CHOSEN),
    "a potential that was not counted": (_potential_of_more, FITTED),
    "a potential less": (
        lambda tree: tree["potentials"].remove(next(p for p in tree["potentials"] if p["columns"] == ["what"])),
        FITTED,
    ),
    "a larger budget": (lambda tree: tree.update(rho=RHO * 1.01), MORE),
    "another generator": (lambda tree: tree.update(noise="another"), "other noise"),
}


@pytest.mark.parametrize("how", list(TAMPERED))
def test_uncharged_measurements_are_found(how: str, honest: Tree) -> None:
    tamper, reason = TAMPERED[how]
    tree = copy.deepcopy(honest)
    tamper(tree)
    assert tree != honest
    assert reason in found_in(tree)


OTHER_COLUMNS = Schema(columns=[SCHEMA.columns[0], SCHEMA.columns[2], SCHEMA.columns[1]])


@pytest.mark.parametrize(
    "other",
    [{"most": MOST + 1}, {"most": MOST - 1}, {"order": "visit"}, {"schema": OTHER_COLUMNS}],
    ids=["longer sequences", "shorter sequences", "another order", "columns in another order"],
)
def test_charged_marginals_of_another_layout_are_found(other: dict[str, Any]) -> None:
    assert "Its sequences are not those" in found_in(measured(**other))


@pytest.mark.parametrize("bound", [1, MOST - 1])
def test_noise_for_fewer_rows_of_a_unit_than_it_has_is_found(bound: int) -> None:
    """The layout is honest, and the counts and their spends agree: but the noise hides fewer rows than a unit moves them by."""
    assert NOISE in found_in(measured(bound=bound))


def test_marginals_of_another_certificate_are_found(honest: Tree) -> None:
    for part, value, reason in (
        ("settings", {**DOCUMENT["settings"], "data": {"sequence_by": None}}, "sequences are not"),
        ("settings", {**DOCUMENT["settings"], "data": {"sequence_by": "born"}}, "sequences are not"),
        ("guarantee", {**DOCUMENT["guarantee"], "max_rows_per_unit": MOST - 1}, "sequences are not"),
        ("ledger", {"events": []}, MORE),
    ):
        assert reason in found_in(honest, {**DOCUMENT, part: value}), part


def test_spends_add_up_to_the_budget(honest: Tree) -> None:
    """A spend that is not charged for cannot hide below the noise of floats."""
    tree = copy.deepcopy(honest)
    left = RHO - sum(1 / (2 * spend["parameter"] ** 2) for spend in tree["spends"])
    distances = next(spend for spend in tree["spends"] if spend["kind"] == "distances")
    distances["parameter"] = 1 / math.sqrt(1 / distances["parameter"] ** 2 + 2 * max(0.0, left) + 2e-6 * RHO)
    assert MORE in found_in(tree)
