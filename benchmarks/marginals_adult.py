"""How useful a model of Adult's columns is: `python benchmarks/marginals_adult.py DATA_DIR [SETTING=VALUE ...]`.

Measures adult_train at ε = 1, δ = 1e-5, samples as many rows, trains a classifier of income on them and tests it on
adult_test; prints seconds, peak memory, the area under the ROC curve, beside that of the original rows, and the
detection AUC. The lists of
categories and the bounds are read off the tables and taken for public, as benchmarks of Adult do: a real run must not.
`epsilon`, `seeds` and every field of MarginalSettings can be set. `judge=FILE.csv` only tests the rows of a file that another
tool made (marginals_smartnoise.py).
"""

import csv
import gzip
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from localsynth.marginals.domain import Domain
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.privacy.noise import SecureRandom
from localsynth.privacy.zcdp import rho_for
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


def features(schema: Schema, rows: list[Record], without: str | None = None) -> tuple[np.ndarray, list[bool]]:
    """(rows, columns) as numbers, categories by their index; and which columns are categories."""
    names = [column.name for column in schema.columns if column.name != without]
    codes = {c.name: {v: i for i, v in enumerate(c.allowed())} for c in schema.columns if isinstance(c, Category)}
    table = np.array([[codes[n][r[n]] if n in codes else r[n] for n in names] for r in rows], dtype=float)
    return table, [n in codes for n in names]


def auc(schema: Schema, train: list[Record], test: list[Record]) -> float:
    """Of gradient boosting, target income."""
    table, categories = features(schema, train, "income")
    model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    model.fit(table, [row["income"] for row in train])
    truth = [row["income"] == model.classes_[1] for row in test]
    return float(roc_auc_score(truth, model.predict_proba(features(schema, test, "income")[0])[:, 1]))


def detection_auc(schema: Schema, rows: list[Record], original: list[Record]) -> float:
    """Of gradient boosting that tells synthetic rows from originals, by five-fold cross-validation; 0.5 is chance."""
    table, categories = features(schema, [*rows, *original])
    synthetic = np.arange(len(table)) < len(rows)
    model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(roc_auc_score(synthetic, cross_val_predict(model, table, synthetic, cv=folds, method="predict_proba")[:, 1]))


def main() -> None:
    folder = Path(sys.argv[1])
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    judge = options.pop("judge", None)
    epsilon, seeds = float(options.pop("epsilon", "1")), int(options.pop("seeds", "1"))
    options.setdefault("target", "income")
    fields = {name: value if name in ("method", "target") else json.loads(value) for name, value in options.items()}
    settings = MarginalSettings(**{**fields, "target": fields["target"] or None})
    train, test = read(folder / "adult_train.csv.gz"), read(folder / "adult_test.csv.gz")
    schema = schema_of(train + test)
    original, judged = typed(train), typed(test)
    if judge is not None:
        with Path(judge).open(encoding="utf-8") as lines:
            made = [{n: float(v) if n in _NUMBERS else v for n, v in row.items()} for row in csv.DictReader(lines)]
        print(f"{judge}: AUC {auc(schema, made, judged):.4f}, {len(made)} rows")
        return
    print(f"original rows: AUC {auc(schema, original, judged):.4f}")
    domain = Domain.of_schema(schema)
    for seed in range(seeds):
        begun = time.perf_counter()
        codes = domain.encode(original)
        encoded = time.perf_counter()
        model = measure_marginals(domain, codes, rho_for(epsilon, 1e-5), SecureRandom(), settings)
        measured = time.perf_counter()
        rows = model.sample(round(model.total), seed)
        sampled = time.perf_counter()
        tables = [" x ".join(m.names) for m in model.measured[len(domain.names) :]]
        print(
            f"epsilon {epsilon:g}: AUC {auc(schema, rows, judged):.4f}, detection AUC"
            f" {detection_auc(schema, rows, original):.3f}, {len(rows)} rows; encode {encoded - begun:.1f} s,"
            f" measure {measured - encoded:.1f} s, sample {sampled - measured:.1f} s;"
            f" peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB;"
            f" {len(tables)} tables: {', '.join(tables)}"
        )


if __name__ == "__main__":
    main()
