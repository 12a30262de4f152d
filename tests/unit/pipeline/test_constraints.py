"""Constraints from the configuration to the rows: whichever way they are made, and whatever is asked of them."""

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest

from localsynth.config import Config, DataConfig, PrivacyConfig, SampleConfig, TrainConfig
from localsynth.errors import ConfigError, DataError
from localsynth.pipeline.count_texts import count_texts
from localsynth.pipeline.export import export
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.rehearse import prepare_rehearsal
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Options, Session
from localsynth.pipeline.train import train
from localsynth.schema.columns import Boolean, Category, Column, Date, Identifier, Integer, Record, Schema, Text, conform
from localsynth.store.private import PrivateStore
from localsynth.store.synthetic import SyntheticStore
from localsynth.system.files import read_json, write_json
from localsynth.verification.file import verify_file
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import latest_run

CONSTRAINTS = ["discharge >= admission", "pregnant = true => sex = 'F'", "pregnant => age BETWEEN 12 AND 55"]
DAY = dt.date(2024, 1, 1)
COLUMNS: list[Column] = [
    Identifier(name="who"),
    Category(name="sex", values=["F", "M"]),
    Boolean(name="pregnant"),
    Integer(name="age", min=0, max=99),
    Date(name="admission", min=DAY, max=dt.date(2024, 12, 31)),
    Date(name="discharge", min=DAY, max=dt.date(2024, 12, 31)),
]
NOTE = Text(name="note", max_tokens=8)
ROWS, BROKEN = 600, 50


def write_table(path: Path) -> None:
    draw = random.Random(1)
    lines = ["who,sex,pregnant,age,admission,discharge,note"]
    for i in range(ROWS):
        sex, age, day = draw.choice("FM"), draw.randint(0, 99), draw.randint(0, 300)
        pregnant = sex == "F" and 20 <= age <= 45 and draw.random() < 0.5
        stay = draw.randint(0, 9) if i >= BROKEN else -5
        dates = [DAY + dt.timedelta(days=day + 10), DAY + dt.timedelta(days=day + 10 + stay)]
        lines.append(f"p{i // 3},{sex},{pregnant},{age},{dates[0]},{dates[1]},note {i % 7}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Any) -> Any:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    source, base = tmp_path / "visits.csv", tmp_path / "base.gguf"
    write_table(source)
    base.write_bytes(tiny_model().read_bytes())
    workspace = Workspace.create(tmp_path / "ws")
    workspace.config_path.write_text("# read by nobody here\n")

    def session(way: str, emit: Any = None, constraints: list[str] = CONSTRAINTS, **options: Any) -> Session:
        columns = [*COLUMNS, NOTE] if way in ("hybrid", "llm") else COLUMNS
        config = Config(
            data=DataConfig(
                source=str(source),
                columns=[column.name for column in columns],
                sequence_by="admission" if way == "sequences" else None,
            ),
            schema=Schema(confirmed=True, columns=columns, constraints=constraints),
            privacy=PrivacyConfig(unit="who", max_rows_per_unit=3, public_size=ROWS // 3, holdout=0.1),
            train=TrainConfig(
                synthesizer="auto" if way == "sequences" else way,  # type: ignore[arg-type]
                model=str(base),
                batch_size=50,
                device="cpu",
                precision="fp32",
            ),
            sample=SampleConfig(quantization="F16", batch_size=4, threads=1, candidates=2),
        )
        return Session(workspace, config, emit or (lambda event: None), lambda: False, Options(**options))

    return session


def trained(session: Session) -> Session:
    ingest(session)
    train(session)
    export(session)
    count_texts(session)  # counts words, where there are texts
    return session


def rows_of(session: Session) -> list[Record]:
    return list(SyntheticStore(session.workspace.synthetic_path).records())


def check(session: Session, rows: list[Record]) -> None:
    schema = session.config.schema_
    names = [column.name for column in schema.learned()]
    for row in rows:
        learned = {name: row[name] for name in names}
        assert conform(schema, learned) == learned
        assert None in (row["admission"], row["discharge"]) or row["discharge"] >= row["admission"]  # type: ignore[operator]
        assert not row["pregnant"] or (row["sex"] in ("F", None) and (row["age"] is None or 12 <= row["age"] <= 55))


@pytest.mark.parametrize(
    "way", ["marginals", pytest.param("hybrid", marks=pytest.mark.slow), pytest.param("llm", marks=pytest.mark.slow)]
)
def test_every_generated_row_satisfies_the_constraints(make: Any, way: str, quick_training: Any, tmp_path: Path) -> None:
    session = trained(make(way, rows=40))
    sample(session)
    sample(make(way, more=10, where="admission = '2024-12-30' AND age < 20"))
    sample(make(way, more=12, balance="pregnant=true:0.5,false:0.5"))
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("admission,pregnant\n2024-12-31,true\n2024-06-01,true\n2024-12-25,false\n")
    sample(make(way, seeds=str(seeds)))
    rows = rows_of(session)
    assert len(rows) == 65
    check(session, rows)
    assert all(row["admission"] == dt.date(2024, 12, 30) and row["age"] < 20 for row in rows[40:50])
    assert {row["pregnant"] for row in rows[50:62]} == {True, False}
    assert [row["admission"] for row in rows[62:]] == [dt.date(2024, 12, 31), dt.date(2024, 6, 1), dt.date(2024, 12, 25)]


def test_sequences_keep_them(make: Any) -> None:
    session = trained(make("sequences", rows=150))
    sample(session)
    check(session, rows_of(session))
    assert len(rows_of(session)) == 150


def test_an_infeasible_where_is_refused_before_sampling(make: Any, tmp_path: Path) -> None:
    session = trained(make("marginals", rows=5))
    with pytest.raises(ConfigError, match="meets --where and satisfies"):
        sample(make("marginals", more=5, where="admission = '2024-05-02' AND discharge = '2024-05-01'"))
    with pytest.raises(ConfigError, match="--balance sex"):
        sample(make("marginals", more=5, where="pregnant", balance="sex=F:1,M:1"))
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("pregnant,age\nfalse,80\ntrue,80\n")
    with pytest.raises(DataError, match="row 2 cannot be completed"):
        sample(make("marginals", seeds=str(seeds)))
    assert not session.workspace.synthetic_path.exists() or rows_of(session) == []


def test_violating_original_rows_are_dropped_and_counted_privately(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from localsynth.marginals.domain import Domain

    told: list[dict[str, Any]] = []
    session = make("marginals", emit=told.append)
    ingest(session)
    (note,) = [event for event in told if event["kind"] == "note"]
    assert note == {
        "kind": "note",
        "private": {"text": f"{BROKEN} of {ROWS} rows break a constraint of the schema and are left out from here on."},
    }
    counted: list[int] = []
    encode = Domain.encode_ordinals

    def watched(self: Domain, batches: Any) -> Any:
        codes = encode(self, batches)
        counted.append(len(codes["age"]))
        return codes

    monkeypatch.setattr(Domain, "encode_ordinals", watched)
    train(session)
    with PrivateStore.open(session.workspace) as store:
        stored = [record for _, record in store.records("train", session.config.schema_)]
    kept = [record for record in stored if record["discharge"] >= record["admission"]]  # type: ignore[operator]
    assert counted == [len(kept)] and len(kept) < len(stored)
    left = "".join(path.read_text() for path in session.workspace.root.rglob("*.json*"))
    assert "break a constraint" not in left


def test_the_certificate_lists_constraints_as_declared(make: Any) -> None:
    session = trained(make("marginals", rows=5))
    run = latest_run(session.workspace)
    assert run is not None
    certificate = read_json(run.certificate_path)
    assert certificate["schema"]["constraints"] == CONSTRAINTS
    (declared,) = [sentence for sentence in certificate["not_covered"] if "declared as public knowledge" in sentence]
    assert all(f"the constraint {text}" in declared for text in CONSTRAINTS)
    assert verify_file(run.certificate_path, None)["valid"]


def test_constraints_changed_since_the_ingest_are_refused(make: Any) -> None:
    ingest(make("marginals"))
    with pytest.raises(ConfigError, match="have changed since"):
        train(make("marginals", constraints=CONSTRAINTS[:1]))


def test_infeasible_measured_bounds_stop_a_run_before_it_charges(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make("marginals")
    ingest(session)
    document = read_json(session.workspace.schema_path)
    for column in document["schema"]["columns"]:
        if column["name"] == "discharge":
            column.update(max="2024-01-01", nullable=False)
        if column["name"] == "admission":
            column.update(min="2024-01-02", nullable=False)
    write_json(session.workspace.schema_path, document)
    with pytest.raises(ConfigError, match="can satisfy the constraint 'discharge >= admission'"):
        train(session)


def test_rows_of_a_rehearsal_satisfy_the_constraints(make: Any) -> None:
    session = prepare_rehearsal(make("marginals"))
    trained(session)
    with PrivateStore.open(session.workspace) as store:
        check(session, [{**row, "who": 0} for _, row in store.records("train", session.config.schema_)])
    sample(session)
    check(session, rows_of(session))
