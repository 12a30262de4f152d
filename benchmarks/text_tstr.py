"""How well texts follow a column, by a classifier of TF-IDF and logistic regression.

    python benchmarks/text_tstr.py ORIGINAL.csv SYNTHETIC.csv --text COLUMN --label COLUMN

Prints as JSON:
    tstr   train on synthetic, test on real: accuracy and macro F1 of the label predicted from the text
    trts   train on real, test on synthetic: the same
    detection_auc   area under the ROC curve of a classifier of synthetic and as many original texts, 5-fold cross-validated
                    (0.5: chance)
"""

import argparse
import csv
import json
import random
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

Row = dict[str, str]


def classifier() -> Any:
    return make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000, C=10))


def scores(train: list[Row], test: list[Row], text: str, label: str) -> dict[str, float]:
    """Accuracy and macro F1 on `test` of a classifier trained on `train`."""
    model = classifier().fit([row[text] for row in train], [row[label] for row in train])
    predicted, true = model.predict([row[text] for row in test]), [row[label] for row in test]
    return {
        "accuracy": round(float(accuracy_score(true, predicted)), 3),
        "macro_f1": round(float(f1_score(true, predicted, average="macro")), 3),
    }


def detection_auc(original: list[Row], synthetic: list[Row], text: str) -> float:
    count = min(len(original), len(synthetic))
    sides = [random.Random(0).sample(side, count) for side in (original, synthetic)]
    texts = [row[text] for side in sides for row in side]
    found = cross_val_score(classifier(), texts, [0] * count + [1] * count, cv=5, scoring="roc_auc")
    return round(float(found.mean()), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--label", required=True)
    arguments = parser.parse_args()
    tables = []
    for path in (arguments.original, arguments.synthetic):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append([row for row in csv.DictReader(file) if row[arguments.text] and row[arguments.label]])
    original, synthetic = tables
    figures = {
        "tstr": scores(synthetic, original, arguments.text, arguments.label),
        "trts": scores(original, synthetic, arguments.text, arguments.label),
        "detection_auc": detection_auc(original, synthetic, arguments.text),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
