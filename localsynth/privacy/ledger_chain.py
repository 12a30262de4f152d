"""The ledger's document: its hash chain, and what the events in it add up to. Pure functions, for any machine.

    {"format": 1, "workspace": id, "events": [event, ...]}

Every event has index, time, run (or null), kind, stage, what, budget, previous and hash. Kind "budget" opens a budget
(epsilon, delta, limit, limit_delta, beyond_limit, basis),
kind "spend" charges it (mechanism, details). `hash` is the SHA-256 of the
canonical JSON of the rest, `previous` the hash before it; the first one's stands for the format and the workspace.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.privacy.accountant import (
    MAX_RUNS,
    TOLERANCE,
    Mechanism,
    epsilon_of,
    flatten,
    group_epsilon,
    most_that_fit,
    total_rho,
)
from localsynth.privacy.zcdp import rho_for
from localsynth.system.canonical_json import canonical_json, sha256_of

__all__ = [
    "FORMAT",
    "Basis",
    "Budget",
    "Event",
    "Spent",
    "break_in_chain",
    "genesis_hash",
    "group_bound",
    "recompute",
    "the_basis",
    "the_target",
]

FORMAT = 1
_LARGEST_EPSILON = 1e6
_DISTRUST = "Do not trust it; ask whoever made it."
Event = dict[str, Any]

_COMMON_FIELDS = {"index", "time", "run", "kind", "stage", "what", "budget", "previous", "hash"}
_FIELDS = {
    "budget": _COMMON_FIELDS | {"epsilon", "delta", "limit", "limit_delta", "beyond_limit", "basis"},
    "spend": _COMMON_FIELDS | {"mechanism", "details"},
}


@dataclass(frozen=True)
class Basis:
    """What every figure of a ledger rests on: who is protected, and whether the table's size was declared or measured."""

    unit: str
    """ "row", or the name of the column that says whose row it is."""
    max_rows_per_unit: int
    size_declared: bool


@dataclass(frozen=True)
class Budget:
    """What one stage of one run may spend; `run` is None for what all runs share (the schema)."""

    name: str
    run: str | None
    epsilon: float
    delta: float


@dataclass(frozen=True)
class Spent:
    """What was executed: the sum over budgets, and each budget's own part."""

    epsilon: float
    delta: float
    budgets: tuple[tuple[Budget, float], ...]
    """Each budget that was charged, with the ε of its spends at its δ."""

    @property
    def bound(self) -> float:
        """What is guaranteed: the sum of the ε that the charged budgets were fixed at.

        The ε of the steps that were executed holds for a number of steps fixed beforehand. A run that was stopped by somebody who
        watched it, or that died on a large batch, stopped for reasons the data may have had a part in; what was fixed
        beforehand are the budgets.
        """
        return math.fsum(max(budget.epsilon, epsilon) for budget, epsilon in self.budgets)


def _is_share(value: Any, below: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < below


def _has_form(event: Any) -> bool:
    """Whether every field is there, no other one, and each of its type (the mechanism is the accountant's to judge)."""
    if not isinstance(event, dict) or set(event) != _FIELDS.get(str(event.get("kind")), set()):
        return False
    texts = all(isinstance(event[field], str) for field in ("time", "stage", "what", "budget", "previous", "hash"))
    if not texts or type(event["index"]) is not int or not isinstance(event["run"], str | None):
        return False
    if event["kind"] == "spend":
        return isinstance(event["mechanism"], dict) and isinstance(event["details"], dict)
    basis = event["basis"]
    if not isinstance(basis, dict) or set(basis) != set(Basis.__dataclass_fields__) or not isinstance(basis["unit"], str):
        return False
    if type(basis["max_rows_per_unit"]) is not int or basis["max_rows_per_unit"] < 1 or type(basis["size_declared"]) is not bool:
        return False
    numbers = _is_share(event["epsilon"], _LARGEST_EPSILON) and _is_share(event["limit"], _LARGEST_EPSILON)
    return numbers and _is_share(event["delta"], 1) and _is_share(event["limit_delta"], 1) and type(event["beyond_limit"]) is bool


def genesis_hash(workspace_id: str) -> str:
    """What the first event names as the hash before it."""
    return sha256_of({"format": FORMAT, "workspace": workspace_id})


def break_in_chain(document: Any) -> str:
    """Where the document is not what its hashes say, in words; "" where it is intact."""
    if not isinstance(document, dict) or set(document) != {"format", "workspace", "events"}:
        return "it has not the form of a ledger"
    if type(document["format"]) is not int or document["format"] != FORMAT:
        return "its format is not known to this version"
    if not isinstance(document["workspace"], str) or not isinstance(document["events"], list):
        return "it has not the form of a ledger"
    previous = genesis_hash(document["workspace"])
    for index, event in enumerate(document["events"]):
        if not _has_form(event):
            return f"event {index} has not the form of an event"
        if event["index"] != index:
            return f"event {index} is out of order"
        if event["previous"] != previous:
            return f"event {index} does not follow from the one before it"
        try:
            own = sha256_of({key: value for key, value in event.items() if key != "hash"})
        except ValueError:
            return f"event {index} holds a number that JSON lacks"
        if event["hash"] != own:
            return f"event {index} was changed"
        previous = own
    return ""


def _by_budget(events: list[Event]) -> list[tuple[Budget, list[Mechanism]]]:
    """The mechanisms charged to each budget that was opened. Raises IntegrityError."""
    opened: dict[tuple[str, str | None], tuple[Budget, list[Mechanism]]] = {}
    for event in events:
        key = (event["budget"], event["run"])
        if event["kind"] == "budget":
            if key in opened:
                raise IntegrityError(f"The ledger opens the budget {key[0]!r} twice.", _DISTRUST)
            opened[key] = (Budget(*key, event["epsilon"], event["delta"]), [])
        elif key not in opened:
            raise IntegrityError(f"The ledger charges the budget {key[0]!r} before opening it.", _DISTRUST)
        else:
            opened[key][1].append(event["mechanism"])
    return list(opened.values())


def recompute(events: list[Event]) -> Spent:
    """What `events` spent: PLD or zCDP inside each budget, whose parameters were fixed beforehand, and a plain sum of ε and δ
    over budgets and runs (basic composition). A budget that was never charged costs nothing. Raises IntegrityError, ConfigError.
    """
    budgets = [(budget, epsilon_of(mechanisms, budget.delta)) for budget, mechanisms in _by_budget(events) if mechanisms]
    epsilon = math.fsum(epsilon for _, epsilon in budgets)
    return Spent(epsilon, math.fsum(budget.delta for budget, _ in budgets), tuple(budgets))


def the_basis(events: list[Event]) -> Basis:
    """What all of `events` rest on. Raises IntegrityError where budgets of the ledger disagree on it, or there is none."""
    found = {(e["basis"]["unit"], e["basis"]["max_rows_per_unit"]) for e in events if e["kind"] == "budget"}
    if len(found) != 1:
        raise IntegrityError("The ledger does not state one unit for all of its spends.", _DISTRUST)
    ((unit, rows),) = found
    return Basis(unit, rows, any(e["basis"]["size_declared"] for e in events if e["kind"] == "budget"))


def the_target(events: list[Event]) -> tuple[float, float]:
    """(ε, δ) that was configured when the first budget was opened: what was promised before anything was spent."""
    for event in events:
        if event["kind"] == "budget":
            return event["limit"], event["limit_delta"]
    return 0.0, 0.0


@lru_cache(maxsize=64)
def _most_runs(mechanism: str, epsilon: float, delta: float) -> int:
    """How often the mechanism with this canonical JSON fits into a budget of (ε, δ)."""

    def fits(times: int) -> bool:
        repeated = {"type": "repeated", "count": times, "of": json.loads(mechanism)}
        return epsilon_of([repeated], delta) <= epsilon + TOLERANCE

    return most_that_fit(fits)


def _textbook(epsilon: float, delta: float, units: int) -> tuple[float, float]:
    """Group privacy of anything that is (ε, δ)-DP (Dwork & Roth 2014, theorem 2.2 and its (ε, δ) form)."""
    return units * epsilon, min(1.0, units * delta * math.exp(min((units - 1) * epsilon, 700.0)))


def _group_bound(budget: Budget, mechanisms: list[Mechanism], units: int) -> tuple[float, float]:
    counts = flatten(mechanisms)
    rho = total_rho(mechanisms)
    if rho is not None and budget.delta > 0:
        # Parts of one ρ, of which the budget has room for so much.
        whole = max(rho, rho_for(budget.epsilon, budget.delta))
        return group_epsilon([{"type": "zcdp", "rho": whole}], budget.delta, units)
    costs = {json.loads(text).get("epsilon") for text in counts}
    (cost,) = costs if len(costs) == 1 else (None,)
    executed = counts.total()
    if cost is None and len(counts) == 1:
        # One step, repeated: the longest run inside the budget, of which every shorter one is a part.
        (text,) = counts
        most = max(executed, _most_runs(text, budget.epsilon, budget.delta))
        if most < MAX_RUNS:
            return group_epsilon([{"type": "repeated", "count": most, "of": json.loads(text)}], budget.delta, units)
    elif cost is not None:
        # Equal parts with proofs of their own: as many of them as fit, and their δ all of the budget's.
        each = canonical_json({"type": "pure_dp", "epsilon": cost}).decode("ascii")
        most = max(executed, _most_runs(each, budget.epsilon, budget.delta))
        if most < MAX_RUNS:
            own = math.fsum(json.loads(text).get("delta", 0.0) * count for text, count in counts.items())
            _, delta = _textbook(cost, max(budget.delta, own), units)
            return units * most * cost, delta
    return _textbook(max(budget.epsilon, epsilon_of(mechanisms, budget.delta)), budget.delta, units)


def group_bound(events: list[Event], units: int) -> tuple[float, float]:
    """(ε, δ) for a group of `units` units, δ at most 1, of whatever the budgets that `events` charged leave room for.

    As with `Spent.bound`, what was executed is no bound: a run may have stopped for reasons the data had a part in. So each
    budget counts in full. The ε of fewer runs of a mechanism is never larger than that of more, so the most runs that fit cover
    every run that stopped before; zCDP counts with as much ρ as fits; where a budget's mechanisms are neither that nor one
    repeated step nor equal parts, it counts as any (ε, δ)-DP mechanism. Depends on which mechanisms were charged, not on how
    often (unless they exceed their budget).
    Raises IntegrityError, ConfigError.
    """
    parts = [_group_bound(budget, mechanisms, units) for budget, mechanisms in _by_budget(events) if mechanisms]
    return math.fsum(epsilon for epsilon, _ in parts), min(1.0, math.fsum(delta for _, delta in parts))
