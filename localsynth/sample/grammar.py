"""Which tokens may come next in a value: llguidance matchers for the patterns of a codec's fields."""

from typing import Any

import llguidance
import numpy as np
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray

from localsynth.errors import ConfigError
from localsynth.llm.row_text import Field, allowed_pattern
from localsynth.schema.conditions import Allowed

# A category of thousands of values or a wide calendar makes a large automaton; the default limits are for chat prompts.
_LIMITS: dict[str, int] = {
    "initial_lexer_fuel": 50_000_000,
    "step_lexer_fuel": 10_000_000,
    "max_lexer_states": 1_000_000,
    "max_grammar_size": 10_000_000,
}
_MAX_CONDITIONS = 1000
"""Compiled grammars of conditions that are kept: in a file of rows to complete, each row may have another one."""


class Grammars:
    """The compiled patterns of a codec's fields, and of the conditions on them."""

    def __init__(self, tokenizer: Any, fields: list[Field]) -> None:
        self._tokenizer, self._fields = tokenizer, fields
        self._matchers = [self._compile(field.column.name, field.pattern) for field in fields]
        self._conditions: dict[tuple[int, Allowed], LLMatcher] = {}

    def _compile(self, column: str, pattern: str) -> LLMatcher:
        limits = llguidance.LLParserLimits(**_LIMITS)
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_regex(pattern), log_level=0, limits=limits)
        if matcher.is_error():
            raise ConfigError(
                f"Cannot compile a grammar for column {column!r}: {matcher.get_error().splitlines()[0]}",
                "The usual cause is a very long list of values: declare fewer, or make the column text.",
            )
        return matcher

    def matcher(self, field: int, allowed: Allowed | None = None) -> LLMatcher:
        """A matcher at the start of a value of the field, or of one of its `allowed` values."""
        if allowed is None:
            return self._matchers[field].deep_copy()
        key = (field, allowed)
        if key not in self._conditions:
            if len(self._conditions) >= _MAX_CONDITIONS:
                self._conditions.clear()
            self._conditions[key] = self._compile(self._fields[field].column.name, allowed_pattern(allowed))
        return self._conditions[key].deep_copy()


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
