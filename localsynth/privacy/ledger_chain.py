"""The ledger's document: its hash chain, and the sum of its events. Pure functions.

    {"format": 2, "workspace": id, "events": [event, ...]}

Every event has index, time, run (or null), kind, stage, what, budget, previous and hash. Kind "budget" opens a budget
(epsilon, delta, order, failure, limit, limit_delta, beyond_limit, basis), kind "spend" charges it (mechanism,
details). `hash` is the SHA-256 of the canonical JSON of the rest. `previous` is the hash of
the event before; of the first event, a hash of the format and the workspace.
"""

import math
from dataclasses import dataclass
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.privacy.account import Account
from localsynth.privacy.accountant import MAX_RUNS, Mechanism, flatten, flatten_parsed, group_epsilon
from localsynth.system.canonical_json import sha256_of

FORMAT = 2
_MAX_EPSILON = 1e6
_MAX_ORDER = 1024
_DISTRUST = "Do not trust it. Ask its author."
Event = dict[str, Any]

_COMMON_FIELDS = {"index", "time", "run", "kind", "stage", "what", "budget", "previous", "hash"}
_FIELDS = {
    "budget": _COMMON_FIELDS | {"epsilon", "delta", "order", "failure", "limit", "limit_delta", "beyond_limit", "basis"},
    "spend": _COMMON_FIELDS | {"mechanism", "details"},
}


@dataclass(frozen=True)
class Basis:
    """The privacy unit of a ledger, and whether the table's size was declared or measured."""

    unit: str
    """ "row", or the name of the unit column."""
    max_rows_per_unit: int
    size_declared: bool


@dataclass(frozen=True)
class Budget:
    """An account that was opened: what one run, or the ingest and the first run on it, may spend."""

    name: str
    account: Account


@dataclass(frozen=True)
class Spent:
    """The spent (ε, δ): the sum over budgets, and each budget's part."""

    epsilon: float
    delta: float
    budgets: tuple[tuple[Budget, float], ...]
    """Each budget that was charged, with the ε of its spends at its δ."""

    @property
    def bound(self) -> float:
        """The guaranteed ε: the sum of the charged budgets' fixed ε.

        The spent ε assumes a number of steps fixed beforehand. A run that a person stopped, or
        that failed on a large batch, may have stopped for reasons that depend on the data. Only
        the budgets were fixed beforehand.
        """
        return math.fsum(max(budget.account.epsilon, epsilon) for budget, epsilon in self.budgets)


def _is_below(value: Any, limit: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < limit


def _is_well_formed(event: Any) -> bool:
    """Whether the event has exactly its fields, each of its type (the accountant checks the mechanism)."""
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
    order = event["order"]
    if order not in (None, "all") and (type(order) is not int or not 2 <= order <= _MAX_ORDER):
        return False
    numbers = _is_below(event["epsilon"], _MAX_EPSILON) and _is_below(event["limit"], _MAX_EPSILON)
    if not (numbers and all(_is_below(event[field], 1) for field in ("delta", "failure", "limit_delta"))):
        return False
    return type(event["beyond_limit"]) is bool and event["failure"] <= event["delta"] / 2


def genesis_hash(workspace_id: str) -> str:
    """The `previous` of the first event."""
    return sha256_of({"format": FORMAT, "workspace": workspace_id})


def break_in_chain(document: Any) -> str:
    """The first fault of the document or its hash chain, in words; "" if it is intact."""
    if not isinstance(document, dict) or set(document) != {"format", "workspace", "events"}:
        return "it is not a ledger"
    if type(document["format"]) is not int or document["format"] != FORMAT:
        return "this version does not know its format"
    if not isinstance(document["workspace"], str) or not isinstance(document["events"], list):
        return "it is not a ledger"
    previous = genesis_hash(document["workspace"])
    for index, event in enumerate(document["events"]):
        if not _is_well_formed(event):
            return f"event {index} is malformed"
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


def newest_run(events: list[Event]) -> list[Event]:
    """The spends of the run that spent last, in order; empty where no run has spent."""
    spends = [event for event in events if event["kind"] == "spend" and event["run"] is not None]
    return [event for event in spends if event["run"] == spends[-1]["run"]]


def by_budget(events: list[Event]) -> list[tuple[Budget, list[Mechanism]]]:
    """The mechanisms charged to each budget that was opened. Raises IntegrityError."""
    opened: dict[str, tuple[Budget, list[Mechanism]]] = {}
    for event in events:
        name = event["budget"]
        if event["kind"] == "budget":
            if name in opened:
                raise IntegrityError(f"The ledger opens the budget {name!r} twice.", _DISTRUST)
            account = Account(event["epsilon"], event["delta"], event["order"], event["failure"])
            opened[name] = (Budget(name, account), [])
        elif name not in opened:
            raise IntegrityError(f"The ledger charges the budget {name!r} before opening it.", _DISTRUST)
        else:
            opened[name][1].append(event["mechanism"])
    return list(opened.values())


def recompute(events: list[Event]) -> Spent:
    """The spent (ε, δ) of `events`.

    Joint composition inside each budget, by its account's method, and sums over budgets. A budget that was never charged
    costs nothing. Raises IntegrityError, ConfigError.
    """
    budgets = [(budget, budget.account.spent(mechanisms)) for budget, mechanisms in by_budget(events) if mechanisms]
    epsilon = math.fsum(epsilon for _, epsilon in budgets)
    return Spent(epsilon, math.fsum(budget.account.delta for budget, _ in budgets), tuple(budgets))


def the_basis(events: list[Event]) -> Basis:
    """The basis of all `events`. Raises IntegrityError where the budgets disagree on it, or there is none."""
    found = {(e["basis"]["unit"], e["basis"]["max_rows_per_unit"]) for e in events if e["kind"] == "budget"}
    if len(found) != 1:
        raise IntegrityError("The ledger does not state one unit for all of its spends.", _DISTRUST)
    ((unit, rows),) = found
    return Basis(unit, rows, any(e["basis"]["size_declared"] for e in events if e["kind"] == "budget"))


def the_target(events: list[Event]) -> tuple[float, float]:
    """The (ε, δ) that was configured when the first budget was opened, before anything was spent."""
    for event in events:
        if event["kind"] == "budget":
            return event["limit"], event["limit_delta"]
    return 0.0, 0.0


def _textbook(epsilon: float, delta: float, units: int) -> tuple[float, float]:
    """Group privacy of anything that is (ε, δ)-DP (Dwork & Roth 2014, theorem 2.2 and its (ε, δ) form)."""
    return units * epsilon, min(1.0, units * delta * math.exp(min((units - 1) * epsilon, 700.0)))


def _group_bound(account: Account, mechanisms: list[Mechanism], units: int) -> tuple[float, float]:
    spent = max(account.epsilon, account.spent(mechanisms))
    textbook = _textbook(spent, account.delta, units)
    kinds = {m["type"] for m, _ in flatten_parsed(mechanisms)}
    if account.order is not None or kinds <= {"pure_dp"}:
        return textbook
    longest = account.in_full(mechanisms)
    return group_epsilon(longest, account.delta, units) if flatten(longest).total() < MAX_RUNS else textbook


def group_bound(events: list[Event], units: int) -> tuple[float, float]:
    """The (ε, δ) of a group of `units` units, δ at most 1, for the charged budgets in full.

    As with `Spent.bound`, the spent amounts are no bound: a run may have stopped for reasons that depend on the data. Where all
    parameters were fixed beforehand, training counts with as many steps as fit, which covers every shorter run, and marginals
    alone with all the ρ that fits. An account with an order counts as an (ε, δ)-DP mechanism: its filter bounds single units.
    Raises IntegrityError, ConfigError.
    """
    parts = [_group_bound(budget.account, mechanisms, units) for budget, mechanisms in by_budget(events) if mechanisms]
    return math.fsum(epsilon for epsilon, _ in parts), min(1.0, math.fsum(delta for _, delta in parts))
