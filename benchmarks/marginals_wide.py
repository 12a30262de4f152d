"""How good a model of 50 columns is: `python benchmarks/marginals_wide.py DATA_DIR [EPSILON [SEEDS [wider]]]`.

Measures four fifths of diabetes130 (δ = 1e-6, target `readmitted`), samples as many rows, and compares them with the measured
ones. Prints the mean total variation of single columns, of pairs, and of triples with the target, each over at most ten values
or quantile ranges a column; the AUC for readmission of gradient boosting, trained on the synthetic rows and tested on the last
fifth; processor seconds of measuring and sampling, and peak memory. The first line has the errors of that last fifth itself, and
the AUC of the original rows. With `wider`, it only measures a table of 100 columns, these and a copy of each with its rows
permuted. The lists of categories and the bounds are read off the table and taken for public: a real run must
not.
"""

import csv
import gzip
import itertools
import math
import resource
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from localsynth.marginals.domain import Attribute, Codes, Domain
from localsynth.marginals.measure import MarginalSettings, measure_marginals
from localsynth.privacy.gaussian import rho_for
from localsynth.privacy.noise import SecureRandom
from localsynth.schema.columns import Category, Column, Integer, Record, Schema

_MISSING, _TARGET, _MOST = "?", "readmitted", 10
_CODES = ("admission_type_id", "discharge_disposition_id", "admission_source_id")
"""Numbers that stand for names."""


def read(path: Path) -> tuple[Schema, list[Record]]:
    """The rows, and a schema that all satisfy."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    columns: list[Column] = []
    for name in rows[0]:
        values = {row[name] for row in rows}
        present, nullable = values - {_MISSING}, _MISSING in values
        if name not in _CODES and all(value.isdecimal() for value in present):
            numbers = [int(value) for value in present]
            columns.append(Integer(name=name, min=min(numbers), max=max(numbers), nullable=nullable))
        else:
            columns.append(Category(name=name, values=sorted(present), nullable=nullable))
    numeric = {column.name for column in columns if isinstance(column, Integer)}
    records: list[Record] = [
        {name: None if value == _MISSING else int(value) if name in numeric else value for name, value in row.items()}
        for row in rows
    ]
    return Schema(columns=columns), records


def coarse(attribute: Attribute, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each bin one of about ten classes: the most frequent values and the rest, or ranges of about as many rows."""
    counts = np.bincount(codes, minlength=attribute.size)
    if attribute.ordered:
        values = counts[: attribute.missing]
        below = (values.cumsum() - values) / max(1, values.sum())
        classes = np.append((below * _MOST).astype(np.int64), [_MOST] * attribute.column.nullable)
    else:
        classes = np.minimum(np.argsort(np.argsort(-counts, kind="stable"), kind="stable"), _MOST - 1)
    return np.unique(classes, return_inverse=True)[1]


class Judge:
    """Compares rows with the measured ones."""

    def __init__(self, domain: Domain, train: Codes, test: Codes) -> None:
        self._domain, self._test = domain, test
        self._classes = {a.name: coarse(a, train[a.name]) for a in domain.attributes}
        self._names = [name for name, classes in self._classes.items() if classes.max() > 0]
        self._original = self._tables(train)

    def _tables(self, codes: Codes) -> dict[tuple[str, ...], NDArray[np.float64]]:
        classes = {name: self._classes[name][codes[name]] for name in self._names}
        sizes = {name: int(self._classes[name].max()) + 1 for name in self._names}
        others = [name for name in self._names if name != _TARGET]
        wanted = [*((name,) for name in self._names), *itertools.combinations(self._names, 2)]
        wanted += [(*pair, _TARGET) for pair in itertools.combinations(others, 2)]
        tables = {}
        for names in wanted:
            shape = [sizes[name] for name in names]
            flat = np.ravel_multi_index([classes[name] for name in names], shape)
            tables[names] = np.bincount(flat, minlength=math.prod(shape)) / len(flat)
        return tables

    def errors(self, codes: Codes) -> str:
        """The mean total variation of tables of one, two and three columns."""
        tables = self._tables(codes)
        distances = {names: float(np.abs(tables[names] - table).sum()) / 2 for names, table in self._original.items()}
        means = [np.mean([d for names, d in distances.items() if len(names) == size]) for size in (1, 2, 3)]
        return "columns {:.4f}, pairs {:.4f}, triples {:.4f}".format(*means)

    def auc(self, codes: Codes) -> float:
        """Of gradient boosting that is trained on these rows."""
        attributes = [a for a in self._domain.attributes if a.name != _TARGET]
        never = self._domain[_TARGET].encode("NO")
        categories = [not a.ordered and a.size <= 255 for a in attributes]
        model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
        model.fit(np.stack([codes[a.name] for a in attributes], axis=1), codes[_TARGET] != never)
        scores = model.predict_proba(np.stack([self._test[a.name] for a in attributes], axis=1))[:, 1]
        return float(roc_auc_score(self._test[_TARGET] != never, scores))


def wider(domain: Domain, codes: Codes) -> tuple[Domain, Codes]:
    """Each column and a copy whose rows are permuted, the same way for all."""
    order = np.random.default_rng(1).permutation(len(codes[_TARGET]))
    copies = [Attribute(a.column.model_copy(update={"name": f"{a.name} again"}), a.starts) for a in domain.attributes]
    more = {copy.name: codes[a.name][order] for a, copy in zip(domain.attributes, copies, strict=True)}
    return Domain((*domain.attributes, *copies)), codes | more


def main() -> None:
    """Print a line a seed."""
    epsilon, seeds = (float(sys.argv[2]) if len(sys.argv) > 2 else 1.0), (int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    schema, records = read(Path(sys.argv[1]) / "diabetes130.csv.gz")
    domain = Domain.of_schema(schema)
    whole = domain.encode(records)
    order = np.random.default_rng(0).permutation(len(records))
    cut = len(records) * 4 // 5
    train, test = ({name: codes[part] for name, codes in whole.items()} for part in (order[:cut], order[cut:]))
    if len(sys.argv) > 4:
        domain, train = wider(domain, train)
        begun = time.process_time()
        measure_marginals(domain, train, rho_for(epsilon, 1e-6), SecureRandom(), MarginalSettings(target=_TARGET))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{len(domain.names)} columns: measure {time.process_time() - begun:.1f} s, peak {peak:.2f} GiB")
        return
    judge = Judge(domain, train, test)
    print(f"original rows: {judge.errors(test)}; AUC {judge.auc(train):.4f}", flush=True)
    for seed in range(seeds):
        begun = time.process_time()
        settings = MarginalSettings(target=_TARGET)
        model = measure_marginals(domain, train, rho_for(epsilon, 1e-6), SecureRandom(), settings)
        measured = time.process_time()
        rows = model.sample(cut, seed)
        sampled = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        codes = domain.encode(rows)
        print(
            f"epsilon {epsilon:g}: {judge.errors(codes)}; AUC {judge.auc(codes):.4f}; {len(model.measured) - len(domain.names)}"
            f" pairs; processor: measure {measured - begun:.1f} s, sample {sampled - measured:.1f} s; peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
