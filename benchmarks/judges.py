"""How benchmarks judge a synthetic table without texts: against original rows, by classifiers and by pairs of columns.

Tables are data frames with the same columns; `numbers` names those that hold numbers, all others are categories.
"""

import itertools
import statistics
from collections.abc import Collection

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

MANY = 20
"""A number with more values than this is compared by the tenths of the original rows."""


def _coded(tables: list[pd.DataFrame], numbers: Collection[str]) -> list[pd.DataFrame]:
    """The tables as numbers: a category is its place among all that occur in any of them, NaN where it is missing."""
    coded = [table.copy() for table in tables]
    for name in tables[0].columns:
        if name in numbers:
            for table in coded:
                table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        else:
            places = {value: i for i, value in enumerate(sorted(set().union(*(t[name].dropna().unique() for t in tables))))}
            for table in coded:
                table[name] = table[name].map(places).astype(float)
    return coded


def _boosting(columns: Collection[str], numbers: Collection[str]) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(categorical_features=[name not in numbers for name in columns], random_state=0)


def boosting_auc(train: pd.DataFrame, test: pd.DataFrame, target: str, numbers: Collection[str]) -> float:
    """Area under the ROC curve of gradient boosting; `target` has two values. A half where `train` has but one of them."""
    train = train[train[target].isin(test[target].unique())]
    if train[target].nunique() < 2:
        return 0.5
    learned, asked = _coded([train.drop(columns=target), test.drop(columns=target)], numbers)
    model = _boosting(learned.columns, numbers).fit(learned.to_numpy(), train[target])
    return float(roc_auc_score(test[target] == model.classes_[1], model.predict_proba(asked.to_numpy())[:, 1]))


def linear_auc(train: pd.DataFrame, test: pd.DataFrame, target: str, numbers: Collection[str]) -> float:
    """The same of logistic regression, on scaled numbers and indicators of categories. No value may be missing."""
    train = train[train[target].isin(test[target].unique())]
    if train[target].nunique() < 2:
        return 0.5
    categories = [name for name in train.columns if name not in numbers and name != target]
    rest = [name for name in train.columns if name in numbers and name != target]
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), categories), (StandardScaler(), rest))
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(train, train[target])
    return float(roc_auc_score(test[target] == model.classes_[1], model.predict_proba(test)[:, 1]))


def detection_auc(synthetic: pd.DataFrame, original: pd.DataFrame, numbers: Collection[str]) -> float:
    """Of gradient boosting that tells synthetic rows from originals, by five-fold cross-validation; 0.5 is chance."""
    table = pd.concat(_coded([synthetic, original], numbers))
    made = np.arange(len(table)) < len(synthetic)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = _boosting(table.columns, numbers)
    told = cross_val_predict(model, table.to_numpy(), made, cv=folds, method="predict_proba")
    return float(roc_auc_score(made, told[:, 1]))


def pairs_error(synthetic: pd.DataFrame, original: pd.DataFrame, numbers: Collection[str]) -> float:
    """The mean total variation distance over all pairs of columns, 0 to 1."""
    made, real = _coded([synthetic, original], numbers)
    for name in numbers:
        if real[name].nunique() > MANY:
            tenths = np.unique(np.quantile(real[name].dropna(), np.arange(0.1, 1, 0.1)))
            for table in (made, real):
                table[name] = np.searchsorted(tenths, table[name], side="right")
    return statistics.mean(
        float(made[pair].value_counts(normalize=True).sub(real[pair].value_counts(normalize=True), fill_value=0).abs().sum()) / 2
        for pair in map(list, itertools.combinations(real.columns, 2))
    )
