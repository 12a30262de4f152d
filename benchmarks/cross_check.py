"""Our attacks beside those of the published package anonymeter, on the tables of one workspace. For PUBLIC tables only.

    .venv/bin/python benchmarks/cross_check.py tables WS DIR [LEAK]     # writes DIR/{train,holdout,synthetic}.csv and ours.json
    OTHER/bin/python benchmarks/cross_check.py anonymeter DIR           # in an environment of its own: pip install anonymeter

The tables are written in the clear: never do this with a table that you may not share. LEAK, from 0 to 1, puts that share of
synthetic rows in the place of which rows of the original stand, so that one can see what each package makes of a real leak.
Both print rates against original and holdout rows, and the risk as Giomi et al. 2022 define it: (original − holdout) /
(1 − holdout), with 95 % intervals.
"""

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

ATTACKS = 500


def tables(workspace: Path, folder: Path, leak: float) -> None:
    """Write the three tables, attack them with the product's attacks, and write and print what these find."""
    import numpy as np

    from localsynth.evaluate.attacks.attributes import attribute_inference
    from localsynth.evaluate.attacks.linkage import guess_quasi_identifiers, linkage
    from localsynth.evaluate.attacks.singling_out import singling_out
    from localsynth.store.private import PrivateStore
    from localsynth.store.synthetic import SyntheticStore
    from localsynth.system.files import read_json
    from localsynth.workspace.paths import Workspace
    from localsynth.workspace.runs import latest_run

    opened = Workspace.open(workspace)
    run = latest_run(opened)
    assert run is not None
    schema = run.effective.schema
    names = [column.name for column in schema.learned()]
    found: dict[str, list[Any]] = {}
    with PrivateStore.open(opened) as store:
        for split in ("train", "holdout"):
            found[split] = [row for unit in store.conformed_units(split, schema) for row in unit]
    made = [{name: row[name] for name in names} for row in SyntheticStore(opened.synthetic_path).records(plain=True)]
    chosen = np.random.default_rng(0).permutation(len(made))[: round(leak * len(made))]
    for place, i in enumerate(chosen):
        made[i] = found["train"][place % len(found["train"])]
    found["synthetic"] = made
    folder.mkdir(exist_ok=True)
    for name, rows in found.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    known = guess_quasi_identifiers(schema)
    attacks = [
        *singling_out(found["train"], found["holdout"], made, schema, seed=0),
        linkage(found["train"], found["holdout"], made, schema, known, seed=0),
        attribute_inference(found["train"], found["holdout"], made, schema, seed=0),
    ]
    document = [attack.to_json() for attack in attacks if attack is not None]
    numbers = [column.name for column in schema.learned() if column.kind in ("integer", "number")]
    (folder / "ours.json").write_text(json.dumps({"known": known, "numbers": numbers, "attacks": document}, indent=1))
    print(f"ours; leak {leak:g}; ε {read_json(run.certificate_path)['guarantee']['guaranteed_epsilon']:g}")
    for attack in document:
        show(attack["name"], attack["risk"], attack["control"], attack["baseline"], attack["status"])
        for column in attack["detail"].get("columns", []):
            show(f"  {column['column']}", column["risk"], column["control"], column["baseline"], column["status"])


def show(name: str, *figures: Any) -> None:
    """One line: rates as hits of tries with their interval, then the risk, then whatever else."""
    rates, rest = [each for each in figures if isinstance(each, dict)], [each for each in figures if not isinstance(each, dict)]
    risk, control = rates[0], rates[1]
    against = None
    if risk["value"] is not None and control["value"] is not None and control["value"] < 1:
        against = (risk["value"] - control["value"]) / (1 - control["value"])
    each = (f"{100 * r['value']:5.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})" if r["n"] else "–" for r in rates)
    shown = "  ".join(each)
    print(f"{name:32} {shown}  n {risk['n']}/{control['n']}  risk {'–' if against is None else f'{100 * against:.1f}'}", *rest)


def anonymeter(folder: Path) -> None:
    """The package's own evaluators on the same tables."""
    import warnings

    import pandas as pd
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

    warnings.simplefilter("ignore")
    files = (folder / f"{name}.csv" for name in ("train", "holdout", "synthetic"))
    train, holdout, made = (pd.read_csv(file, keep_default_na=False) for file in files)
    ours = json.loads((folder / "ours.json").read_text())
    known, numbers = ours["known"], ours["numbers"]
    for frame in (train, holdout, made):
        # The package compares numbers with numbers only; the tables are of positive ones, so -1 stands for none.
        frame[numbers] = frame[numbers].replace("", -1).apply(pd.to_numeric)
    others = [name for name in train.columns if name not in known]

    def rate(found: Any) -> dict[str, Any]:
        return {"value": found.value, "low": found.value - found.error, "high": found.value + found.error, "n": ATTACKS}

    def report(name: str, evaluated: Any) -> None:
        results = evaluated.results()
        value, (low, high) = results.risk()
        end = "" if math.isnan(value) else f"({100 * low:.1f} to {100 * high:.1f})"
        show(name, *(rate(each) for each in (results.attack_rate, results.control_rate, results.baseline_rate)), end)

    # Its correction for sides of different sizes is a fitted curve: with sides of one size, as ours are, none is needed.
    as_many = train.sample(min(len(train), len(holdout)), random_state=0)
    for mode in ("univariate", "multivariate"):
        evaluator = SinglingOutEvaluator(ori=as_many, syn=made, control=holdout, n_attacks=ATTACKS, n_cols=4, seed=0)
        report(f"singling out, {mode}", evaluator.evaluate(mode=mode))
    for neighbours in (1, 10):
        evaluator = LinkabilityEvaluator(
            ori=train, syn=made, control=holdout, n_attacks=ATTACKS, aux_cols=(known, others), n_neighbors=neighbours
        )
        report(f"linkability, {neighbours} neighbours", evaluator.evaluate(n_jobs=1))
    for secret in train.columns:
        rest = [name for name in train.columns if name != secret]
        evaluator = InferenceEvaluator(
            ori=train, syn=made, control=holdout, aux_cols=rest, secret=secret, regression=secret in numbers, n_attacks=ATTACKS
        )
        report(f"  inference, {secret}", evaluator.evaluate(n_jobs=1))


if __name__ == "__main__":
    if sys.argv[1] == "tables":
        tables(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)
    else:
        anonymeter(Path(sys.argv[2]))
