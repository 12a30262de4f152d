"""Two scores of sdmetrics, for comparison with other tools: column shapes and pair trends, 0 to 1."""

import math
import warnings
from typing import Any

from localsynth.evaluate.arrays import Rows, halves, is_ordered, labels, ordered, sample
from localsynth.schema.columns import Schema, Text

_MAX_ROWS = 5_000
_MAX_COLUMNS = 25


def sdmetrics_scores(train: Rows, synthetic: Rows, schema: Schema, *, seed: int) -> dict[str, Any] | None:
    """The two properties of sdmetrics' quality report, with their split-half baseline.

    Dates go in as days. Texts are left out, as sdmetrics does. On at most 5,000 rows, and the first 25 columns: pairs take long.
    None without two such columns or without rows.
    """
    columns = [column for column in schema.learned() if not isinstance(column, Text)][:_MAX_COLUMNS]
    one, other = halves(sample(train, 2 * _MAX_ROWS, seed), seed)
    if len(columns) < 2 or not synthetic or not one:
        return None
    import pandas as pd
    from sdmetrics.reports import QualityReport

    kinds = {column.name: {"sdtype": "numerical" if is_ordered(column) else "categorical"} for column in columns}
    metadata = {"tables": {"table": {"columns": kinds}}, "relationships": []}

    def frame(records: Rows) -> Any:
        return pd.DataFrame({column.name: (ordered if is_ordered(column) else labels)(column, records) for column in columns})

    def score(first: Rows, second: Rows) -> dict[str, float | None]:
        report = QualityReport()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant columns and the like have no score
            report.generate({"table": frame(first)}, {"table": frame(second)}, metadata, verbose=False)
        found = dict(report.get_properties()[["Property", "Score"]].itertuples(index=False))
        shapes, trends = found.get("Column Shapes", math.nan), found.get("Column Pair Trends", math.nan)
        return {"column_shapes": None if math.isnan(shapes) else shapes, "pair_trends": None if math.isnan(trends) else trends}

    original = sample(train, _MAX_ROWS, seed)
    made = sample(synthetic, _MAX_ROWS, seed + 1)
    return {
        "n": {"original": len(original), "synthetic": len(made)},
        "columns": len(columns),
        **score(original, made),
        "ceiling": {"n": len(other), **score(one, other)},
    }
