"""Sampling one token for each row from masked logits: pure functions on arrays.

Row by row and not over the whole batch at once: a row of logits fits the CPU's second-level cache, a batch does not.
"""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
"""Weights are summed by blocks first: the running sum over all tokens in double precision would take most of the time."""

_TOO_SMALL = 1e-20
"""Sum of weights, relative to the most likely token's, below which float32 (smallest normal number 1e-38) may have lost some."""

_CUTOFFS = (1e-2, 1e-4, 0.0)
"""Weights relative to the greatest, from which on top-p sorts tokens."""


def choose_index(log_weights: NDArray[np.float64], uniform: float) -> int:
    """An index, sampled in proportion to exp(log_weights); `uniform` in [0, 1) decides (inverse distribution function)."""
    cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
    return min(int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")), len(log_weights) - 1)


def choose_tokens(
    logits: NDArray[np.float32], allowed: NDArray[np.bool_], uniform: NDArray[np.float64], temperature: float, top_p: float
) -> NDArray[np.intp]:
    """One token for each row, sampled from softmax(logits / temperature) renormalised over the allowed tokens.

    logits, allowed (rows, vocabulary); uniform (rows,) in [0, 1) decides (inverse distribution function).
    With top_p < 1 only the smallest set of most likely allowed tokens whose probability reaches top_p is sampled from
    (Holtzman et al. 2020). Every row must allow at least one token.
    """
    rows, size = logits.shape
    weights = np.zeros(-(-size // _BLOCK) * _BLOCK, dtype=np.float32)
    chosen = np.empty(rows, dtype=np.intp)
    for row in range(rows):
        _weigh(logits[row], allowed[row], temperature, weights[:size])
        if top_p < 1.0:
            _keep_top(weights[:size], top_p)
        chosen[row] = _inverse_cdf(weights, uniform[row])
    return chosen


def _weigh(logits: NDArray[np.float32], allowed: NDArray[np.bool_], temperature: float, out: NDArray[np.float32]) -> None:
    """Write weights proportional to exp(logits / temperature) to `out`, zero where a token is not allowed."""
    np.subtract(logits, logits.max(), out=out)
    if temperature != 1.0:
        np.divide(out, np.float32(temperature), out=out)
    np.exp(out, out=out)
    np.multiply(out, allowed, out=out)
    if not out.sum() > _TOO_SMALL:
        # All allowed tokens are so improbable that their weights underflow: measured from the greatest allowed one instead.
        # Not done always, because selecting by the mask first takes more time than all the rest.
        out.fill(0.0)
        scores = logits[allowed] / np.float32(temperature)
        out[allowed] = np.exp(scores - scores.max())


def _inverse_cdf(weights: NDArray[np.float32], uniform: np.float64) -> int:
    blocks = np.cumsum(np.einsum("ij->i", weights.reshape(-1, _BLOCK)), dtype=np.float64)
    target = uniform * blocks[-1]
    block = int(np.searchsorted(blocks, target, side="right"))
    # Rounding may lead past the last token with weight; that last one is meant.
    block = min(block, int(np.searchsorted(blocks, blocks[-1], side="left")))
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    cumulative = np.cumsum(inside, dtype=np.float64)
    place = int(np.searchsorted(cumulative, target - (blocks[block - 1] if block else 0.0), side="right"))
    return block * _BLOCK + min(place, int(np.searchsorted(cumulative, cumulative[-1], side="left")))


def _keep_top(weights: NDArray[np.float32], top_p: float) -> None:
    """Set the weights outside the top-p set to zero, in place."""
    wanted = top_p * weights.sum(dtype=np.float64)
    greatest = weights.max()
    # Sorting is what takes the time, so the likely tokens are tried first; the last cutoff takes in all.
    for cutoff in _CUTOFFS:
        top = np.flatnonzero(weights > np.float32(cutoff) * greatest)
        if weights[top].sum(dtype=np.float64) >= wanted:
            break
    order = top[np.argsort(weights[top])[::-1]]
    kept = order[np.cumsum(weights[order], dtype=np.float64) - weights[order] < wanted]
    values = weights[kept]
    weights.fill(0.0)
    weights[kept] = values


def guided(logits: NDArray[np.float32], contrast: NDArray[np.float32], guidance: float) -> NDArray[np.float32]:
    """Logits moved away from the contrast rows' by `guidance` times the difference; all of shape (rows, vocabulary).

    Up to a constant of each row, which a softmax does not see, that is log p + guidance * (log p - log p') for probabilities p
    after the row's own values and p' after the contrast row's (Sanchez et al. 2023, arXiv:2306.17806, equation 7).
    """
    moved = np.empty(logits.shape, dtype=np.float32)
    for own, other, out in zip(logits, contrast, moved, strict=True):
        np.subtract(own, other, out=out)
        np.multiply(out, np.float32(guidance), out=out)
        np.add(out, own, out=out)
    return moved


def log_share(logits: NDArray[np.float32], part: NDArray[np.bool_], whole: NDArray[np.bool_], temperature: float) -> float:
    """The logarithm of the probability of the tokens in `part`, given that it is one of those in `whole`, for one row."""
    scores = logits[whole].astype(np.float64) / temperature
    inside = logits[part].astype(np.float64) / temperature
    return float(np.logaddexp.reduce(inside) - np.logaddexp.reduce(scores))
