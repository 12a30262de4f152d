"""Copies: rows and passages of the original that occur in the synthetic table, exactly or nearly.

Each original row is looked up in the synthetic table, so that original and holdout compare fairly whatever their sizes.
"""

from localsynth.evaluate.arrays import Floats, Rows, key_of, sample, shuffled_columns, text_columns, texts
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.distance import MAX_CANDIDATES, Nearness, measure_nearness
from localsynth.evaluate.stats import Rate
from localsynth.schema.columns import Schema, Value

NEAR = 0.025
"""A near copy is at most this far away, as a mean over the columns (`Distances`)."""
PASSAGE_WORDS = 8


def exact_copies(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> Attack:
    """Rows that equal a synthetic row in every learned value (texts ignoring case and spacing). Uses all rows."""
    columns = schema.learned()
    found = {key_of(record, columns) for record in synthetic}
    naive = {key_of(record, columns) for record in shuffled_columns(synthetic, schema, seed)}

    def rate(rows: Rows, among: set[tuple[Value, ...]]) -> Rate:
        return Rate(sum(key_of(row, columns) in among for row in rows), len(rows))

    return Attack(
        "exact copies",
        "Does an original row occur in the synthetic table, word for word?",
        rate(train, found),
        rate(holdout, found),
        rate(train, naive),
        f"Every value of {len(columns)} learned columns compared with all {len(synthetic):,} synthetic rows. "
        "Baseline: the synthetic table with each column shuffled.",
    )


def near_copies(near: Nearness, train: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> Attack:
    """Rows with a synthetic row at a distance of `NEAR` or less; `near` as measured with the same seed."""
    shuffled = shuffled_columns(sample(synthetic, MAX_CANDIDATES, seed + 2), schema, seed)

    def rate(distances: Floats) -> Rate:
        return Rate(int((distances <= NEAR).sum()), len(distances))

    return Attack(
        "near copies",
        "Is there a synthetic row that is almost an original one?",
        rate(near.members),
        rate(near.others),
        rate(measure_nearness(train, [], shuffled, schema, seed=seed).members),
        f"At most {NEAR:g} away on average over the columns (Gower's distance), among {near.candidates:,} synthetic rows. "
        "Baseline: the same rows with each column shuffled.",
    )


def _passages(text: str) -> list[tuple[str, ...]]:
    words = text.casefold().split()
    return [tuple(words[i : i + PASSAGE_WORDS]) for i in range(len(words) - PASSAGE_WORDS + 1)]


def shared_passages(train: Rows, holdout: Rows, synthetic: Rows, schema: Schema) -> Attack | None:
    """Original texts of which eight consecutive words occur in a synthetic text. None without texts of that length.

    As in the extraction of training data from language models (Carlini et al. 2021, arXiv:2012.07805), but applied to the
    table. The baseline is the fraction of texts that share a passage with a holdout text: common phrases.
    """
    columns = text_columns(schema)

    def passages_of(rows: Rows) -> set[tuple[str, ...]]:
        return {passage for column in columns for text in texts(column, rows) for passage in _passages(text)}

    def rate(rows: Rows, among: set[tuple[str, ...]]) -> Rate:
        hits = n = 0
        for row in rows:
            own = [passage for column in columns for passage in _passages(texts(column, [row])[0])]
            n += bool(own)
            hits += any(passage in among for passage in own)
        return Rate(hits, n)

    found = passages_of(synthetic)
    risk = rate(train, found)
    if not risk.n:
        return None
    return Attack(
        "shared passages",
        f"Do {PASSAGE_WORDS} consecutive words of an original text occur in a synthetic one?",
        risk,
        rate(holdout, found),
        rate(train, passages_of(holdout)),
        f"All texts of {PASSAGE_WORDS} words or more, without regard to case. Baseline: passages that occur in holdout texts.",
    )
