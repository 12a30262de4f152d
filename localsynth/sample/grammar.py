"""Which tokens may come next in a value: llguidance matchers for the patterns of a codec's fields."""

from typing import Any

import llguidance
import numpy as np
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray

from localsynth.codec import Field
from localsynth.errors import ConfigError

__all__ = ["FieldGrammar", "TokenMasks"]

# A category of thousands of values or a wide calendar makes a large automaton; the default limits are for chat prompts.
_LIMITS: dict[str, int] = {
    "initial_lexer_fuel": 50_000_000,
    "step_lexer_fuel": 10_000_000,
    "max_lexer_states": 1_000_000,
    "max_grammar_size": 10_000_000,
}


class FieldGrammar:
    """The compiled pattern of one field. `matcher()` gives a fresh matcher at the value's beginning."""

    def __init__(self, tokenizer: Any, field: Field) -> None:
        limits = llguidance.LLParserLimits(**_LIMITS)
        self._matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_regex(field.pattern), log_level=0, limits=limits)
        if self._matcher.is_error():
            raise ConfigError(
                f"No grammar can be made for column {field.column.name!r}: {self._matcher.get_error().splitlines()[0]}",
                "A very long list of values is the usual cause: declare fewer, or make the column text.",
            )

    def matcher(self) -> LLMatcher:
        """A matcher that has read nothing yet."""
        return self._matcher.deep_copy()


class TokenMasks:
    """Computes, in parallel, the allowed next tokens of many matchers as a (rows, vocabulary) boolean array."""

    def __init__(self, rows: int, vocabulary: int, threads: int) -> None:
        self._executor = LLExecutor(threads)
        self._bits = allocate_token_bitmask(rows, vocabulary)
        self._vocabulary = vocabulary

    def compute(self, matchers: list[LLMatcher]) -> NDArray[np.bool_]:
        """True where a token may come next; row i belongs to matchers[i]."""
        bits = self._bits[: len(matchers)]
        fill_next_token_bitmask_par(self._executor, [(matcher, i) for i, matcher in enumerate(matchers)], bits)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : self._vocabulary]
        return allowed.view(np.bool_)
