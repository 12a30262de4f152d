"""How useful a model of Adult's columns is: `python benchmarks/marginals_adult.py DATA_DIR [SETTING=VALUE ...]`.

Measures adult_train at ε = 1, δ = 1e-5, samples as many rows, trains a classifier of income on them and tests it on
adult_test; prints seconds, peak memory, the area under the ROC curve, beside that of the original rows, and the
detection AUC. The lists of
categories and the bounds are read off the tables and taken for public, as benchmarks of Adult do: a real run must not.
`epsilon`, `seeds` and every field of MarginalSettings can be set.
"""

import csv
import gzip
import json
import resource
import sys
import time
from pathlib import Path

import pandas as pd
from judges import boosting_auc, detection_auc

from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Category, Column, Integer, Record, Schema

_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a gzipped CSV file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def schema_of(rows: list[dict[str, str]]) -> Schema:
    """A schema that all rows satisfy."""
    columns: list[Column] = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in _NUMBERS:
            numbers = [int(value) for value in values]
            columns.append(Integer(name=name, min=min(numbers), max=max(numbers), nullable=False))
        else:
            columns.append(Category(name=name, values=sorted(set(values)), nullable=False))
    return Schema(columns=columns)


def typed(rows: list[dict[str, str]]) -> list[Record]:
    """The rows with numbers for the columns that hold them."""
    return [{name: int(value) if name in _NUMBERS else value for name, value in row.items()} for row in rows]


def main() -> None:
    folder = Path(sys.argv[1])
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    epsilon, seeds = float(options.pop("epsilon", "1")), int(options.pop("seeds", "1"))
    options.setdefault("target", "income")
    fields = {name: value if name in ("method", "target") else json.loads(value) for name, value in options.items()}
    settings = MarginalSettings(**{**fields, "target": fields["target"] or None})
    train, test = read(folder / "adult_train.csv.gz"), read(folder / "adult_test.csv.gz")
    schema = schema_of(train + test)
    original, judged = typed(train), typed(test)
    learned, asked = pd.DataFrame(original), pd.DataFrame(judged)
    print(f"original rows: AUC {boosting_auc(learned, asked, 'income', _NUMBERS):.4f}")
    domain = Domain.of_schema(schema)
    for seed in range(seeds):
        begun = time.perf_counter()
        codes = domain.encode(original)
        encoded = time.perf_counter()
        model = measure_marginals(domain, codes, rho_for(epsilon, 1e-5), SecureRandom(), settings)
        measured = time.perf_counter()
        rows = model.sample(round(model.total), seed)
        sampled = time.perf_counter()
        made = pd.DataFrame(rows)
        tables = [" x ".join(m.names) for m in model.measured[len(domain.names) :]]
        print(
            f"epsilon {epsilon:g}: AUC {boosting_auc(made, asked, 'income', _NUMBERS):.4f}, detection AUC"
            f" {detection_auc(made, learned, _NUMBERS):.3f}, {len(rows)} rows; encode {encoded - begun:.1f} s,"
            f" measure {measured - encoded:.1f} s, sample {sampled - measured:.1f} s;"
            f" peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB;"
            f" {len(tables)} tables: {', '.join(tables)}"
        )


if __name__ == "__main__":
    main()
