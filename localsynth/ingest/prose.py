"""Whether the values of a column are prose, or names and titles, which a language model need not learn."""

from collections.abc import Collection

_MIN_WORDS, _SENTENCE = 2.5, 8.0
"""Words of a value on average from which a column can be prose, and from which it is."""


def is_prose(values: Collection[str]) -> bool:
    """Whether values have the words of a sentence, or some words that begin small: those of names begin with capitals."""
    words = [value.split() for value in values]
    mean = sum(map(len, words)) / len(words)
    if not _MIN_WORDS <= mean < _SENTENCE:
        return mean >= _SENTENCE
    first = [next((sign for sign in word if sign.isalpha()), "") for value in words for word in value[1:]]
    cased = [sign for sign in first if sign.lower() != sign.upper()]
    return not cased or sum(map(str.islower, cased)) >= len(cased) / 2
