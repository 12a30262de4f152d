"""Adult with nothing declared: `python benchmarks/undeclared_adult.py DATA_DIR EPSILON SEEDS [KEY=VALUE ...]`.

For each seed, through the command line: `init`, `run` with these settings and `export-data` on adult_train. Then the AUC of a
classifier of income that is trained on the synthetic rows and tested on adult_test, and for each measured list the share of the
original rows that it leaves out.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from judges import boosting_auc

_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")


def read(path: Path) -> pd.DataFrame:
    """The rows as texts; missing ones as NaN."""
    return pd.read_csv(path, dtype=str, skipinitialspace=True)


def main() -> None:
    """Print a line a seed."""
    folder, epsilon, seeds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    train, test = read(folder / "adult_train.csv.gz"), read(folder / "adult_test.csv.gz")
    print(f"original rows: AUC {boosting_auc(train, test, 'income', _NUMBERS):.4f}")
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            (place / "adult.csv").write_bytes(gzip.decompress((folder / "adult_train.csv.gz").read_bytes()))

            def localsynth(*arguments: str, place: Path = place) -> None:
                command = [sys.executable, "-m", "localsynth.cli.main", *arguments]
                environment = {**os.environ, "XDG_CONFIG_HOME": str(place / "config")}
                subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)

            begun = time.perf_counter()
            localsynth("init", "ws", "--data", "adult.csv")
            settings = [f"privacy.epsilon={epsilon}", "evaluate.report=false", f"sample.seed={seed}", *sys.argv[4:]]
            localsynth("run", "ws", "--rows", str(len(train)), *(part for each in settings for part in ("--set", each)))
            seconds = time.perf_counter() - begun
            localsynth("export-data", "ws", "--format", "csv", "--out", "made.csv")
            columns = json.loads((place / "ws" / "schema.json").read_text())["schema"]["columns"]
            lists = {c["name"]: c["values"] for c in columns if c["kind"] == "category" and c["measured"]}
            lost = {name: float((~train[name].dropna().isin(values)).mean()) for name, values in lists.items()}
            made = read(place / "made.csv").reindex(columns=test.columns)
            worst = ", ".join(f"{name} {share:.3f}" for name, share in sorted(lost.items(), key=lambda item: -item[1])[:3])
            figures = f"AUC {boosting_auc(made, test, 'income', _NUMBERS):.4f}, {seconds:.0f} s"
            print(f"epsilon {epsilon}: {figures}; left out of lists: {worst}", flush=True)


if __name__ == "__main__":
    main()
