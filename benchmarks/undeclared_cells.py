"""How much of a wide table is cut where nothing is declared: `python benchmarks/undeclared_cells.py DATA_DIR EPSILON SEEDS`.

For each seed: `init` and `ingest` on all 50 columns of diabetes130, then the share of the present cells of its lists and ranges
that are in no measured list or outside of the measured range, and the columns that lose most.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd


def main() -> None:
    """Print a line a seed."""
    folder, epsilon, seeds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    table = gzip.decompress((folder / "diabetes130.csv.gz").read_bytes())
    for _ in range(seeds):
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            (place / "visits.csv").write_bytes(table)
            rows = pd.read_csv(place / "visits.csv", dtype=str, na_values="?", keep_default_na=False)
            environment = {**os.environ, "XDG_CONFIG_HOME": str(place / "config")}
            for arguments in (
                ("init", "ws", "--data", "visits.csv", "--missing", "?"),
                ("ingest", "ws", "--set", f"privacy.epsilon={epsilon}"),
            ):
                command = [sys.executable, "-m", "localsynth.cli.main", *arguments]
                subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
            columns = json.loads((place / "ws" / "schema.json").read_text())["schema"]["columns"]
            cut, cells = {}, 0
            for column in columns:
                present = rows[column["name"]].dropna()
                if column["kind"] == "category":
                    kept = present.isin(column["values"])
                elif column["kind"] in ("integer", "number"):
                    kept = pd.to_numeric(present).between(column["min"], column["max"])
                else:
                    continue
                cut[column["name"]], cells = int((~kept).sum()), cells + len(present)
            worst = sorted(cut, key=lambda name: -cut[name])[:4]
            shares = ", ".join(f"{name} {cut[name] / rows[name].notna().sum():.1%}" for name in worst)
            print(f"epsilon {epsilon}: {sum(cut.values()) / cells:.2%} of {cells:,} cells cut; {shares}", flush=True)


if __name__ == "__main__":
    main()
