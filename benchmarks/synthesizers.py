"""What a synthetic table with texts is worth: `python benchmarks/synthesizers.py ORIGINAL.csv SYNTHETIC.csv [SETTING=VALUE ...]`.

ORIGINAL holds rows that were not trained on. Of these as many as there are synthetic ones are what is possible (`real`), and
both they and the synthetic rows are compared with the rest: by the total variation distance of each column and of each pair
of columns, averaged; and by a filter (TF-IDF, logistic regression) that learns from their texts whether `label` (Rating) is at
least `positive` (4), as the area under the ROC curve on the rest. `agreement` is the other way round: the filter learned from
the rest, tried on them, so whether a text says what its label says. `words` cuts the originals' texts, where the schema did.
Means over `splits` (5) of the original; prints JSON.
"""

import csv
import itertools
import json
import random
import statistics
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """The rows of a CSV file, truth values spelled as the original spells them."""
    spelled = {"true": "1", "false": "0"}
    with path.open(newline="", encoding="utf-8") as lines:
        return [{name: spelled.get(value.lower(), value) for name, value in row.items()} for row in csv.DictReader(lines)]


def edges(values: list[str]) -> list[float] | None:
    """The deciles of a column of many numbers; None for any other."""
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return None
    return sorted(set(np.quantile(numbers, np.arange(0.1, 1, 0.1)))) if len(set(numbers)) > 20 else None


def distance(one: list[tuple[str, ...]], other: list[tuple[str, ...]]) -> float:
    """Total variation, 0 to 1."""
    a, b = Counter(one), Counter(other)
    return sum(abs(a[value] / len(one) - b[value] / len(other)) for value in a | b) / 2


def shapes(rows: list[Row], rest: list[Row], columns: list[str], size: int) -> float:
    """The mean distance over all sets of so many columns."""
    return statistics.mean(
        distance([tuple(row[name] for name in names) for row in rows], [tuple(row[name] for name in names) for row in rest])
        for names in itertools.combinations(columns, size)
    )


def auc(train: list[Row], test: list[Row], text: str, label: str, positive: float) -> float:
    """Of the filter; a half where one side of the training rows is empty."""
    learned, asked = [float(row[label]) >= positive for row in train], [float(row[label]) >= positive for row in test]
    if len(set(learned)) < 2 or len(set(asked)) < 2:
        return 0.5
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit([row[text] for row in train], learned)
    return float(roc_auc_score(asked, model.predict_proba([row[text] for row in test])[:, 1]))


def main() -> None:
    original, synthetic = read(Path(sys.argv[1])), read(Path(sys.argv[2]))
    options = dict(argument.split("=", 1) for argument in sys.argv[3:])
    text, label = options.get("text", "Review Text"), options.get("label", "Rating")
    positive, splits = float(options.get("positive", "4")), int(options.get("splits", "5"))
    if "words" in options:
        for row in original:
            row[text] = " ".join(row[text].split()[: int(options["words"])])
    columns = [name for name in synthetic[0] if name in original[0] and name != text]
    for name in columns:
        if (bins := edges([row[name] for row in original])) is not None:
            for row in original + synthetic:
                row[name] = str(int(np.searchsorted(bins, float(row[name]), side="right"))) if row[name] else ""
    figures: dict[str, list[float]] = {}
    for seed in range(splits):
        shuffled = random.Random(seed).sample(original, len(original))
        real, rest = shuffled[: len(synthetic)], shuffled[len(synthetic) :]
        for who, rows in (("synthetic", synthetic), ("real", real)):
            found = {f"{who} columns": shapes(rows, rest, columns, 1), f"{who} pairs": shapes(rows, rest, columns, 2)}
            if text in synthetic[0]:
                train, test = ([row for row in part if row[text] and row[label]] for part in (rows, rest))
                found[f"{who} auc"] = auc(train, test, text, label, positive)
                found[f"{who} agreement"] = auc(test, train, text, label, positive)
            for name, figure in found.items():
                figures.setdefault(name, []).append(figure)
    print(json.dumps({name: round(statistics.mean(values), 4) for name, values in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
