"""Drawing one token for each row from masked logits: pure functions on arrays."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_tokens"]


def choose_tokens(
    logits: NDArray[np.float32], allowed: NDArray[np.bool_], uniform: NDArray[np.float64], temperature: float, top_p: float
) -> NDArray[np.intp]:
    """One token for each row, drawn from softmax(logits / temperature) renormalised over the allowed tokens.

    logits, allowed (rows, vocabulary); uniform (rows,) in [0, 1) decides the draw (inverse distribution function).
    With top_p < 1 only the smallest set of most likely allowed tokens whose probability reaches top_p takes part
    (Holtzman et al. 2020). Every row must allow at least one token.
    """
    scores = np.where(allowed, logits, np.float32(-np.inf))
    scores -= scores.max(axis=1, keepdims=True)
    if temperature != 1.0:
        scores /= np.float32(temperature)
    weights = np.exp(scores, out=scores)
    if top_p < 1.0:
        _keep_top(weights, top_p)
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    target = uniform * cumulative[:, -1]
    chosen = np.array([np.searchsorted(row, t, side="right") for row, t in zip(cumulative, target, strict=True)], dtype=np.intp)
    # Rounding may push a draw past the last token with weight; the token with weight before it is meant.
    last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    result: NDArray[np.intp] = np.minimum(chosen, last)
    return result


def _keep_top(weights: NDArray[np.float32], top_p: float) -> None:
    """Set the weights outside the top-p set to zero, in place."""
    for row in weights:
        order = np.argsort(row)[::-1]
        before = np.cumsum(row[order], dtype=np.float64) - row[order]
        row[order[before >= top_p * row.sum(dtype=np.float64)]] = 0.0
