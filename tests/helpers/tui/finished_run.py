"""A finished run on random people: its record, its rows, and the figures of its report.

`python tests/helpers/tui/finished_run.py` makes the stored report again after the format of reports has changed.
"""

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

from localsynth.results.as_json import to_json
from localsynth.schema.columns import Boolean, Category, Date, Integer, Record, Schema, Text
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.files import write_json
from tests.helpers.records import run_record, stage_outcomes
from tests.helpers.tui.planned import RISKS

REPORT = Path(__file__).with_name("random_report.json")

SCHEMA = Schema(
    confirmed=True,
    columns=[
        Integer(name="age", min=0, max=99, nullable=False),
        Category(name="sex", values=["F", "M"], nullable=False),
        Category(name="kind [k]", values=["refund", "delivery", "question"]),
        Boolean(name="ok", nullable=False),
        Date(name="day", min=dt.date(2025, 1, 1), max=dt.date(2025, 12, 31), nullable=False),
        Text(name="note", nullable=False),
    ],
)

CERTIFICATE = {
    "summary": "The synthetic table is differentially private.",
    "guarantee": {"guaranteed_epsilon": 2.0, "spent_epsilon": 1.9, "spent_delta": 1e-5, "unit": "row", "risks": to_json(RISKS)},
    "not_covered": ["What <others> & [all] know."],
    "signature": None,
}


def table(count: int, seed: int) -> list[Record]:
    """Records in which some columns are associated; every note is unique."""
    r = random.Random(seed)
    rows: list[Record] = []
    for _ in range(count):
        age = min(99, max(0, round(r.gauss(45, 20))))
        words = " ".join(r.choices(["please", "help", "with", "my", "parcel", "refund", "soon", "broken", "box"], k=10))
        kind = None if r.random() < 0.1 else r.choice(["refund", "refund", "delivery", "question"])
        day = dt.date(2025, 1, 1) + dt.timedelta(days=r.randrange(365))
        note = f"planted{r.randrange(10**6):06d} {words}"
        rows.append({"age": age, "sex": r.choice("FM"), "kind [k]": kind, "ok": age > 40, "day": day, "note": note})
    return rows


def finish(workspace: Path) -> Path:
    """Give the workspace a finished run with 200 rows; returns the run's directory."""
    run = workspace / "runs" / "001-20261124-aaaa"
    run.mkdir(parents=True)
    run_record(SCHEMA, **stage_outcomes(rows=200)).write(run / "run.json")
    write_json(run / "certificate.json", CERTIFICATE)
    store = SyntheticStore(workspace / "synthetic.duckdb")
    store.create_table(SCHEMA)
    job = store.open_job(Origin(run.name, "00", 0, 2.0, 1e-5, {}, {}), total=200)
    store.append(job.number, 0, table(200, seed=3))
    return run


def report() -> dict[str, Any]:
    """The report.json of such a run, as made by `fresh_report` and stored."""
    stored: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))
    return stored


def fresh_report() -> dict[str, Any]:
    """The same, made by the present code in half a minute."""
    from localsynth.evaluate.report import report_document
    from localsynth.evaluate.tables import evaluate_tables

    figures = evaluate_tables(table(150, 1), table(100, 2), table(120, 3), SCHEMA, target="ok", quasi_identifiers=["age", "sex"])
    return report_document(figures, CERTIFICATE, release=False)


if __name__ == "__main__":
    REPORT.write_text(json.dumps(fresh_report(), indent=None, ensure_ascii=False) + "\n", encoding="utf-8")
