"""The cost of mechanisms: serialisable descriptions of mechanisms, and their (ε, δ).

The adjacency is always "add or remove one unit". A description is a JSON object:

    {"type": "gaussian", "noise_multiplier": s}            noise s times the L2 sensitivity, or any that compose to it
    {"type": "pure_dp", "epsilon": e}                      any mechanism with a proof of e-DP
    {"type": "thresholded_gaussian", "noise_multiplier": s, "delta": d}   gaussian, except for outputs of probability d
    {"type": "poisson_sampled", "rate": q, "of": gaussian} each unit is sampled independently
    {"type": "repeated", "count": k, "of": mechanism}      k times, independently

All figures are upper bounds. Privacy loss distributions (PLD) are pessimistic ("connect the dots",
Doroshenko et al. 2022, arXiv:2207.04380) and are composed by dp_accounting, which only this
module and `localsynth.privacy.sampled_loss` import. Gaussian mechanisms are first composed to one
(`localsynth.privacy.gaussian`), whose ε is exact where nothing else ran.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from localsynth.errors import BudgetError, ConfigError
from localsynth.privacy.gaussian import epsilon_of_rho, gaussian_of_rho
from localsynth.system.canonical_json import canonical_json

Mechanism: TypeAlias = dict[str, Any]

TOLERANCE = 1e-9
"""For floating-point sums, in nats: three times 0.1 fit into 0.3."""
MAX_RUNS = 1_000_000
"""The largest answer of `max_repetitions`."""

_INTERVAL = 1e-4
"""Discretization of the privacy loss, in nats."""
_GROUP_BINS = 20_000
"""Maximum number of points, approximately, of a group's distribution: it takes longer to build than one unit's."""
_MIN_NOISE = 0.05
"""With less, a step costs an ε in the hundreds and takes minutes to compute: its ε counts as infinite."""
_MAX_NOISE = 1e5
_MAX_BINS = 1e7
"""More points take gigabytes. A distribution with a larger mean (a thousand nats for one unit) has infinite ε."""

_RANGES = {
    "noise_multiplier": (1e-2, 1e6),
    "epsilon": (1e-9, 100.0),
    "delta": (1e-100, 1 - 1e-9),
    "rate": (1e-15, 1.0),
    "count": (1, 2 * MAX_RUNS),
}
"""Limits of the fields: far wider than what localsynth writes, and within what can be computed."""

_FIELDS = {
    "gaussian": {"noise_multiplier"},
    "pure_dp": {"epsilon"},
    "thresholded_gaussian": {"noise_multiplier", "delta"},
    "poisson_sampled": {"rate", "of"},
    "repeated": {"count", "of"},
}


def _wrong(text: str) -> ConfigError:
    return ConfigError(f"Not a privacy mechanism: {text}.", "Use one of the forms listed in localsynth.privacy.accountant.")


def _checked(mechanism: Any) -> Mechanism:
    """`mechanism` if it is well formed, its own level only: it may come from an edited file. Raises ConfigError."""
    if not isinstance(mechanism, dict) or not isinstance(mechanism.get("type"), str):
        raise _wrong("it has no type")
    kind = mechanism["type"]
    if kind not in _FIELDS or set(mechanism) != _FIELDS[kind] | {"type"}:
        raise _wrong(f"type {kind!r} with the fields {', '.join(sorted(map(str, mechanism)))}")
    for field, (low, high) in _RANGES.items():
        if field not in mechanism:
            continue
        value = mechanism[field]
        if type(value) not in ((int,) if field == "count" else (int, float)) or not low <= value <= high:
            raise _wrong(f"{field} must be a {'whole ' if field == 'count' else ''}number from {low:g} to {high:g}")
    if kind == "poisson_sampled" and _checked(mechanism["of"])["type"] != "gaussian":
        raise _wrong("only a Gaussian mechanism can be Poisson sampled")
    return mechanism


def _text(mechanism: Mechanism) -> str:
    return canonical_json(mechanism).decode("ascii")


def flatten(mechanisms: list[Mechanism]) -> Counter[str]:
    """Count the runs of each mechanism, keyed by canonical JSON and without `repeated`. Raises ConfigError."""
    counts: Counter[str] = Counter()
    for mechanism in mechanisms:
        times = 1
        while _checked(mechanism)["type"] == "repeated":
            times *= mechanism["count"]
            mechanism = mechanism["of"]
            if times > _RANGES["count"][1]:
                raise _wrong("it is repeated too often")
        counts[_text(mechanism)] += times
    if any(count > _RANGES["count"][1] for count in counts.values()):
        raise _wrong("it is repeated too often")
    return counts


def unflatten(counts: Mapping[str, int]) -> list[Mechanism]:
    """The mechanisms that `flatten` gives these counts for."""
    return [{"type": "repeated", "count": count, "of": json.loads(text)} for text, count in counts.items()]


def flatten_parsed(mechanisms: list[Mechanism]) -> list[tuple[Mechanism, int]]:
    """Each mechanism without `repeated`, and how often it runs. Raises ConfigError."""
    return [(json.loads(text), count) for text, count in flatten(mechanisms).items()]


def dp_sgd_step(noise_multiplier: float, rate: float) -> Mechanism:
    """One step of DP-SGD: the noisy sum of the clipped gradients of a Poisson sample of the units."""
    return _checked({"type": "poisson_sampled", "rate": rate, "of": {"type": "gaussian", "noise_multiplier": noise_multiplier}})


def _noise_of(mechanism: Mechanism) -> float | None:
    """The noise multiplier of a Gaussian, Poisson sampled or not; None for a proven ε."""
    found = mechanism.get("of", mechanism)
    return float(found["noise_multiplier"]) if found["type"] in ("gaussian", "thresholded_gaussian") else None


def _membership_probabilities(rate: float, units: int) -> list[float]:
    """The probability of each number, 0 to `units`, of a group's units in a batch."""
    return [math.comb(units, taken) * rate**taken * (1 - rate) ** (units - taken) for taken in range(units + 1)]


@lru_cache(maxsize=256)
def _mean_loss(text: str, units: int) -> float:
    """The mean privacy loss, in nats, of one run for `units` units; many runs concentrate around its multiple."""
    import numpy as np

    mechanism = json.loads(text)
    noise, rate = _noise_of(mechanism), mechanism.get("rate", 1.0)
    if noise is None:
        epsilon = units * mechanism["epsilon"]
        return float(epsilon * math.tanh(epsilon / 2))
    x = np.linspace(-8.0, 8.0 + units / noise, 20_001)
    base, shifted = -(x**2) / 2, -((x[:, None] - np.arange(units + 1) / noise) ** 2) / 2
    with np.errstate(divide="ignore"):
        mixture = np.logaddexp.reduce(shifted + np.log(_membership_probabilities(rate, units)), axis=1)
    return float(np.sum(np.exp(mixture) * (mixture - base)) * (x[1] - x[0]) / math.sqrt(2 * math.pi))


@lru_cache(maxsize=16)
def _distribution(text: str, units: int, interval: float) -> Any:
    """The PLD of one run of the mechanism with this canonical JSON, when `units` units are added or removed."""
    from dp_accounting.pld import common
    from dp_accounting.pld import privacy_loss_distribution as pld

    from localsynth.privacy.sampled_loss import group_distribution, unit_distribution

    mechanism = json.loads(text)
    kind = mechanism["type"]
    if kind == "gaussian":
        return pld.from_gaussian_mechanism(mechanism["noise_multiplier"] / units, value_discretization_interval=interval)
    if kind == "thresholded_gaussian":
        # Of more units than one, nothing is known of the outputs apart.
        apart = mechanism["delta"] if units == 1 else _RANGES["delta"][1]
        alone = _distribution(_text({"type": "gaussian", "noise_multiplier": mechanism["noise_multiplier"]}), units, interval)
        parameters = common.DifferentialPrivacyParameters(0.0, apart)
        return alone.compose(pld.from_privacy_parameters(parameters, value_discretization_interval=interval))
    if kind == "poisson_sampled":
        noise, rate = mechanism["of"]["noise_multiplier"], mechanism["rate"]
        if rate == 1:
            return pld.from_gaussian_mechanism(noise / units, value_discretization_interval=interval)
        if units == 1:
            return unit_distribution(noise, rate, interval)
        # The number of the group in the batch is binomial, and in the worst case their gradients are parallel
        # (Ganesh 2024, "Tight Group-Level DP Guarantees for DP-SGD with Sampling", arXiv:2401.10294).
        return group_distribution(noise, _membership_probabilities(rate, units), interval)
    parameters = common.DifferentialPrivacyParameters(mechanism["epsilon"], 0.0)
    return pld.from_privacy_parameters(parameters, value_discretization_interval=interval)


def rho_of(gaussians: Iterable[tuple[Mechanism, int]]) -> float:
    """The ρ of Gaussian mechanisms, thresholded or not, each with how often it runs: the sum of 1 / (2 σ²)."""
    return math.fsum(count / (2 * mechanism["noise_multiplier"] ** 2) for mechanism, count in gaussians)


def _with_one_gaussian(counts: dict[str, int]) -> dict[str, int]:
    """The same mechanisms with all Gaussians as the one that they compose to, exactly."""
    mechanisms = {text: json.loads(text) for text in counts}
    gaussians = {text for text, mechanism in mechanisms.items() if mechanism["type"] == "gaussian"}
    others = {text: count for text, count in counts.items() if text not in gaussians}
    one = gaussian_of_rho(rho_of((mechanisms[text], counts[text]) for text in gaussians)) if gaussians else None
    return {**others, _text(one): 1} if one else others


def _min_noise(counts: Iterable[str]) -> float:
    """The smallest noise multiplier of the mechanisms with one; infinite where there is none."""
    return min((noise for text in counts if (noise := _noise_of(json.loads(text))) is not None), default=math.inf)


def _is_too_much(counts: dict[str, int], units: int, interval: float) -> bool:
    """Whether ε is too large to compute a PLD of everything in `counts`."""
    return (
        _min_noise(counts) < _MIN_NOISE
        or math.fsum(count * _mean_loss(text, units) for text, count in counts.items()) > _MAX_BINS * interval
    )


@lru_cache(maxsize=2)
def _composition(counts: tuple[tuple[str, int], ...], units: int, interval: float) -> Any:
    """The PLD of everything in `counts`."""
    total: Any = None
    for text, count in counts:
        part = _distribution(text, units, interval).self_compose(count)
        total = part if total is None else total.compose(part)
    return total


def _composed(counts: dict[str, int], delta: float, units: int = 1, interval: float = _INTERVAL) -> float:
    """ε at `delta` of everything in `counts`, of Gaussians alone exactly, else by PLD.

    Infinite where `delta` is too small or ε too large to compute.
    """
    counts = _with_one_gaussian(counts)
    if not counts:
        return 0.0
    if delta <= 0:
        return math.inf
    one = json.loads(next(iter(counts)))
    if one["type"] == "gaussian" and len(counts) == 1:
        return epsilon_of_rho(units**2 * rho_of([(one, 1)]), delta)
    if _is_too_much(counts, units, interval):
        return math.inf
    return max(0.0, float(_composition(tuple(sorted(counts.items())), units, interval).get_epsilon_for_delta(delta)))


def _split(counts: dict[str, int]) -> tuple[dict[str, int], float]:
    """The mechanisms with a noise multiplier, and the sum of the proven ε."""
    noisy: dict[str, int] = {}
    proven: list[float] = []
    for text, count in counts.items():
        mechanism = json.loads(text)
        if _noise_of(mechanism) is not None:
            noisy[text] = count
        else:
            proven.append(count * mechanism["epsilon"])
    return noisy, math.fsum(proven)


def check_delta(delta: float) -> None:
    """Raise ConfigError unless 0 <= `delta` < 1."""
    if not 0 <= delta < 1:
        raise ConfigError(f"delta must be at least 0 and below 1, not {delta}.", "Correct privacy.delta; 1e-6 is common.")


@lru_cache(maxsize=512)
def _epsilon(counts: tuple[tuple[str, int], ...], delta: float) -> float:
    noisy, proven = _split(dict(counts))
    composed = _composed(dict(counts), delta)
    # PLD rounds each proven ε up to its grid, so for many small ones their sum is the better of two valid bounds.
    return composed if noisy else min(proven, composed)


def epsilon_of(mechanisms: list[Mechanism], delta: float) -> float:
    """The ε, at `delta`, of running all of `mechanisms` on the same data, their parameters fixed beforehand.

    Of Gaussians alone it is exact, else composed by PLD. Infinite where `delta` is too small, or ε too large to compute. Raises
    ConfigError.
    """
    check_delta(delta)
    return _epsilon(tuple(sorted(flatten(mechanisms).items())), delta)


def deltas_of(mechanisms: list[Mechanism], epsilons: Sequence[float]) -> list[float]:
    """δ at each of `epsilons` (ascending, from 0 on) of running all of `mechanisms`, their parameters fixed beforehand.

    By PLD, the larger of both directions; 1 where it cannot be computed. Raises ConfigError.
    """
    counts = _with_one_gaussian(dict(flatten(mechanisms)))
    if not counts or _is_too_much(counts, 1, _INTERVAL):
        return [1.0 if counts else 0.0] * len(epsilons)
    deltas = _composition(tuple(sorted(counts.items())), 1, _INTERVAL).get_delta_for_epsilon(list(epsilons))
    return [min(1.0, max(0.0, float(delta))) for delta in deltas]


def max_repetitions(fits: Callable[[int], bool]) -> int:
    """The largest number of repetitions, at most MAX_RUNS, for which the monotone predicate `fits` holds.

    Calls it about twenty times.
    """
    if not fits(1):
        return 0
    enough, too_many = 1, 32
    while too_many <= MAX_RUNS and fits(too_many):
        enough, too_many = too_many, too_many * 4
    too_many = min(too_many, MAX_RUNS + 1)
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if fits(middle):
            enough = middle
        else:
            too_many = middle
    return enough


def _composed_group(noisy: dict[str, int], delta: float, units: int) -> float:
    """ε at `delta` of mechanisms with a noise multiplier, for a group.

    On a grid of 0.2 % of one unit's ε, coarser where little noise spreads the losses; this costs about 2 %.
    """
    one = _composed(noisy, delta)
    if math.isinf(one):
        return math.inf
    reach = units / _min_noise(_with_one_gaussian(noisy))
    return _composed(noisy, delta, units, max(2e-3 * one, (reach**2 / 2 + 10 * reach) / _GROUP_BINS))


@lru_cache(maxsize=128)
def _group(counts: tuple[tuple[str, int], ...], delta: float, units: int) -> tuple[float, float]:
    noisy, proven = _split(dict(counts))
    return units * proven + (_composed_group(noisy, delta, units) if noisy else 0.0), delta


def group_epsilon(mechanisms: list[Mechanism], delta: float, units: int) -> tuple[float, float]:
    """(ε, δ) for a group of `units` units who are added or removed together.

    Gaussian mechanisms are composed as the group's own dominating pair (arXiv:2401.10294). Proven ε are added: an e-DP mechanism
    is (k e)-DP for k units. An infinite ε guarantees nothing. Raises ConfigError.
    """
    check_delta(delta)
    if units < 1:
        raise ConfigError(f"A group has at least 1 unit, not {units}.", "Ask for a group of 1 or more.")
    return _group(tuple(sorted(flatten(mechanisms).items())), delta, units)


def calibrate_noise(epsilon: float, delta: float, rate: float, steps: int, others: list[Mechanism] | None = None) -> float:
    """The smallest noise multiplier, to 0.2 %, for `steps` Poisson-sampled Gaussian steps to cost at most `epsilon` at `delta`.

    `others` are mechanisms that compose with the steps within the same (ε, δ). Conservative: `epsilon_of` of all of them is
    at most `epsilon`. Never below 0.05.

    Raises ConfigError on invalid arguments, BudgetError where no noise is enough.
    """
    if not (0 < delta < 1 and epsilon > 0 and steps >= 1 and 0 < rate <= 1):
        raise ConfigError(
            f"Noise cannot be calibrated for epsilon {epsilon}, delta {delta}, rate {rate} and {steps} steps.",
            "epsilon must be positive, delta between 0 and 1, the rate above 0 and at most 1, steps at least 1.",
        )
    fixed = flatten(others or [])

    def fits(noise: float, interval: float) -> bool:
        step = flatten([{"type": "repeated", "count": steps, "of": dp_sgd_step(noise, rate)}])
        return _composed(fixed + step, delta, 1, interval) <= epsilon

    # The search uses a coarser grid than the check of its answer, off by up to 0.3 % of ε at 10,000 steps.
    interval = max(_INTERVAL, 2.5e-4 * epsilon)
    noise = least_noise(lambda noise: fits(noise, interval), f"{steps} steps within epsilon {epsilon:g} at delta {delta:g}")
    while not fits(noise, _INTERVAL):
        noise *= 1.0005
    return noise


def least_noise(fits: Callable[[float], bool], what: str) -> float:
    """The smallest noise multiplier from 0.05 on, to 0.1 %, for which the monotone predicate `fits` holds.

    Raises BudgetError, naming `what` should fit, where none does.
    """
    enough = 1.0
    while not fits(enough):
        enough *= 2
        if enough > _MAX_NOISE:
            raise BudgetError(
                f"No amount of noise keeps {what}.",
                "Raise privacy.epsilon, or train for fewer epochs.",
            )
    too_little = enough / 2
    while too_little >= _MIN_NOISE and fits(too_little):
        enough, too_little = too_little, too_little / 2
    too_little = max(too_little, _MIN_NOISE)
    while enough / too_little > 1.001:
        middle = math.sqrt(enough * too_little)
        if fits(middle):
            enough = middle
        else:
            too_little = middle
    return enough
