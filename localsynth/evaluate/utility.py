"""Usefulness by TSTR: train on synthetic, test on real (Esteban et al. 2017, arXiv:1706.02633).

A model is trained on the synthetic rows and tested on the holdout. It is compared with the same model trained on:

- the original rows, all of them and as many as there are synthetic ones
- the synthetic rows with every column shuffled, which removes all associations
- where there are texts and other columns to predict from: the synthetic rows with their texts shuffled, which shows what the
  columns teach without the texts
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from localsynth.evaluate.arrays import Floats, Rows, is_labelled, is_ordered, labels, ordered, sample, shuffled_columns, texts
from localsynth.evaluate.stats import Interval, mean_interval
from localsynth.schema.columns import Category, Column, Record, Schema, Text

SEEDS = 5

_MAX_ROWS = 10_000
_MAX_LABELS = 250  # scikit-learn's boosted trees take 255 categories a column
_NAMES = re.compile(
    r"target|label|class|outcome|result|readmi|income|type|category|intent|topic|diagnos|rating|churn|default|fraud",
    re.IGNORECASE,
)


def guess_target(schema: Schema, train: Rows) -> str | None:
    """The column to predict where none is named.

    Of the labelled columns with 2 to 100 values in use, the last whose name suggests an outcome, else the last;
    without any, the last ordered column; None for a table of texts alone. A labelled column counts only where at least two of its
    values have ten rows each.
    """
    usable = []
    for column in schema.learned():
        if is_labelled(column):
            counts = Counter(name for name in labels(column, train) if name is not None)
            if 2 <= len(counts) <= 100 and sum(count >= 10 for count in counts.values()) >= 2:
                usable.append(column.name)
    numbers = [column.name for column in schema.learned() if is_ordered(column)]
    for candidates in ([name for name in usable if _NAMES.search(name)], usable, numbers):
        if candidates and len(schema.learned()) > 1:
            return candidates[-1]
    return None


def _trees(categorical: list[bool], regression: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return model(max_iter=60, max_leaf_nodes=15, early_stopping=False, categorical_features=categorical, random_state=seed)


def _text_model(regression: bool) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=20_000, token_pattern=r"\b\w+\b")
    return make_pipeline(vectorizer, Ridge() if regression else LogisticRegression(C=10, max_iter=60, class_weight="balanced"))


class _Task:
    """One prediction task: features, the values to predict, and how a prediction is scored on the holdout."""

    def __init__(self, schema: Schema, target: str, train: Rows) -> None:
        self.column = schema.column(target)
        others = [column for column in schema.learned() if column.name != target]
        self.columns = [column for column in others if not isinstance(column, Text)]
        self.texts = [column for column in others if isinstance(column, Text)]
        # From the schema, which is the same for every arm. More labels than a tree takes share the last number.
        self._codes: dict[str, dict[str | None, int]] = {}
        for column in self.columns:
            if is_labelled(column):
                names = column.allowed() if isinstance(column, Category) else ("no", "yes")
                self._codes[column.name] = {name: min(code, _MAX_LABELS) for code, name in enumerate(names)}
        self.regression = is_ordered(self.column)
        self.names = [] if self.regression else sorted({name for name in labels(self.column, train) if name is not None})
        self.metric = "R2" if self.regression else "AUC" if len(self.names) == 2 else "macro-F1"

    def _array(self, records: Rows) -> Floats:
        """Shape (rows, columns except target and texts)."""

        def encode(column: Column) -> Floats:
            if is_ordered(column):
                return ordered(column, records)
            codes = self._codes[column.name]
            other = codes.get(column.other, math.nan) if isinstance(column, Category) else math.nan
            known: dict[str | None, float] = {None: math.nan, **codes}
            return np.array([known.get(name, other) for name in labels(column, records)], dtype=np.float64)

        return np.column_stack([encode(column) for column in self.columns])

    def _joined_texts(self, records: Rows) -> list[str]:
        return [" ".join(parts) for parts in zip(*(texts(column, records) for column in self.texts), strict=True)]

    def with_target(self, records: Rows) -> list[Record]:
        """The rows whose target is not null and, for labels, occurs in the original."""
        if self.regression:
            return [row for row in records if row[self.column.name] is not None]
        return [row for row, name in zip(records, labels(self.column, records), strict=True) if name in self.names]

    def answers(self, records: Rows) -> Floats:
        """The target: as numbers, or as the index of the label in `names`."""
        if self.regression:
            return ordered(self.column, records)
        index = {name: i for i, name in enumerate(self.names)}
        return np.array([index[str(name)] for name in labels(self.column, records)], dtype=np.float64)

    def predict(self, records: Rows, questions: Rows, seed: int) -> Floats:
        """Train on `records` and predict `questions`: numbers, or probabilities of shape (questions, labels).

        Columns go to boosted trees, texts to a linear model on TF-IDF of words; where there are both, the two are averaged.
        """
        answers = self.answers(records)
        if len(np.unique(answers)) < 2:
            return self._constant(answers, len(questions))
        found = []
        if self.columns:
            array = self._array(records)
            # scikit-learn cannot bin a column without any value.
            array[:, np.isnan(array).all(axis=0)] = 0
            model = _trees([column.name in self._codes for column in self.columns], self.regression, seed).fit(array, answers)
            found.append(self._outcome(model, self._array(questions)))
        if self.texts:
            try:
                model = _text_model(self.regression).fit(self._joined_texts(records), answers)
            except ValueError:  # no word in any text
                found.append(self._constant(answers, len(questions)))
            else:
                found.append(self._outcome(model, self._joined_texts(questions)))
        return np.asarray(np.mean(found, axis=0))

    def _constant(self, answers: Floats, n: int) -> Floats:
        if self.regression:
            return np.full(n, answers.mean())
        shares = np.bincount(answers.astype(int), minlength=len(self.names)) / len(answers)
        return np.tile(shares, (n, 1))

    def _outcome(self, model: Any, questions: Any) -> Floats:
        if self.regression:
            return np.asarray(model.predict(questions), dtype=np.float64)
        probabilities = np.zeros((len(questions), len(self.names)))
        probabilities[:, model.classes_.astype(int)] = model.predict_proba(questions)
        return probabilities

    def score(self, predicted: Floats, answers: Floats) -> float:
        """AUC, macro-F1 over the labels that occur, or R²; NaN where the answers are all the same."""
        from sklearn.metrics import f1_score, r2_score, roc_auc_score

        if len(np.unique(answers)) < 2:
            return math.nan
        if self.metric == "R2":
            return float(r2_score(answers, predicted))
        if self.metric == "AUC":
            return float(roc_auc_score(answers, predicted[:, 1]))
        return float(f1_score(answers, predicted.argmax(axis=1), labels=np.unique(answers), average="macro", zero_division=0))


def _shuffled_texts(records: Rows, columns: Sequence[Column], seed: int) -> list[Record]:
    """The texts of each row, together, permuted among the rows: associations among the other columns stay."""
    order = np.random.default_rng(seed).permutation(len(records))
    names = [column.name for column in columns]
    return [row | {name: records[i][name] for name in names} for row, i in zip(records, order, strict=True)]


def _sentence(task: _Task, scores: dict[str, Interval], ratio: float | None, n_test: int) -> str:
    """The outcome for a reader who does not know the metric."""
    made, real, name = scores["synthetic"].value, scores["real"].value, task.column.name
    if task.metric == "AUC":
        does = f"ranks {100 * made:.0f} of 100 pairs of real rows with different {name} correctly"
        other = f"{100 * real:.0f}, guessing 50"
    elif task.metric == "R2":
        does = f"explains {100 * max(0.0, made):.0f} % of the variance of {name} in real rows"
        other = f"{100 * max(0.0, real):.0f} %"
    else:
        does, other = f"scores {made:.2f} of 1 when it predicts {name} of real rows", f"{real:.2f}"
    first = (
        f"A model trained on the synthetic rows {does}, one trained on the original rows {other} "
        f"({task.metric} {made:.2f} and {real:.2f}, {n_test:,} held-out rows)"
    )
    if ratio is None:
        return f"{first}. Even the original rows hardly predict it, so this does not judge the synthetic rows."
    above = " above guessing" if task.metric == "AUC" else ""
    return f"{first}. The relative score{above} is {100 * max(0.0, ratio):.0f} %."


def compare_utility(
    train: Rows, holdout: Rows, synthetic: Rows, schema: Schema, *, target: str | None, seed: int
) -> dict[str, Any]:
    """Scores on the holdout of a model trained on each of four or five tables, with 95 % intervals over five repetitions.

    Each repetition resamples the rows of every training table and of the holdout with replacement, the same holdout rows for
    all, so that the interval covers both. On at most 10,000 rows a table. `ratio` is the synthetic score divided by the real
    one; for the AUC, both minus 0.5, the score of guessing. It is None where the real score is within 0.02 of guessing. A
    table that cannot be used gives {"status": "not run", "reason"}. Raises KeyError if the schema has no column `target`.
    """
    chosen = target if target is not None else guess_target(schema, train)
    if chosen is None:
        return {"status": "not run", "reason": "There is no column to predict from the others. Name one as evaluate.target."}
    if isinstance(schema.column(chosen), Text) or len(schema.learned()) < 2:
        return {"status": "not run", "reason": f"{chosen} cannot be predicted: it is a text, or the only column."}
    task = _Task(schema, chosen, train)
    real, test, made = (task.with_target(rows) for rows in (train, holdout, synthetic))
    reference = {"target": chosen, "target_chosen": "named" if target is not None else "guessed"}
    if min(len(real), len(test), len(made)) < 20 or (not task.regression and len(task.names) < 2):
        return {
            "status": "not run",
            **reference,
            "reason": "There are fewer than 20 rows with a target, or the target has a single value.",
        }
    real, test, made = (sample(rows, _MAX_ROWS, seed + i) for i, rows in enumerate((real, test, made)))
    scores: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for repetition in range(SEEDS):
        random = np.random.default_rng([seed, repetition])
        questions = [test[i] for i in random.integers(len(test), size=len(test))]
        answers = task.answers(questions)
        tables = {
            "real": real,
            "real_same_size": sample(real, len(made), seed + repetition),
            "synthetic": made,
            "marginals_only": shuffled_columns(made, schema, seed + repetition),
        }
        if task.texts and task.columns:
            tables["texts_shuffled"] = _shuffled_texts(made, task.texts, seed + repetition)
        for arm, rows in tables.items():
            resampled = [rows[i] for i in random.integers(len(rows), size=len(rows))]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a linear model that has not converged is good enough
                predicted = task.predict(resampled, questions, seed + repetition)
            scores.setdefault(arm, []).append(task.score(predicted, answers))
            sizes[arm] = len(rows)
    intervals = {arm: mean_interval([score for score in values if not math.isnan(score)]) for arm, values in scores.items()}
    chance = 0.5 if task.metric == "AUC" else 0.0
    learnable = intervals["real"].value - chance
    ratio = (intervals["synthetic"].value - chance) / learnable if learnable > 0.02 else None
    return {
        "status": "done",
        **reference,
        "metric": task.metric,
        "labels": len(task.names) or None,
        "repetitions": SEEDS,
        "n_test": len(test),
        # Student's interval ignores that no score exceeds 1.
        "arms": {
            arm: {**replace(interval, high=min(1.0, interval.high)).to_json(), "n": sizes[arm]}
            for arm, interval in intervals.items()
        },
        "ratio": ratio,
        "sentence": _sentence(task, intervals, ratio, len(test)),
    }
