"""Several rows a person: what is promised to whom, and that neither it nor the table can change under a run."""

import pytest

from localsynth.config import load_config
from localsynth.errors import ConfigError, IntegrityError
from localsynth.pipeline.run import VERBS
from localsynth.pipeline.session import Options, Session
from localsynth.system.files import file_sha256, read_json
from localsynth.workspace.effective_schema import finished_ingest
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import ModelPlan, RunRecord, RunSettings, new_run

PEOPLE, MOST = 300, 3


@pytest.fixture
def visits(localsynth, tmp_path):
    """A workspace on a table in which person i has 1 to 5 rows, with the person as unit."""
    rows = "".join(
        f"p{i},{'refund' if i % 3 else 'question'},{visit},Asks about parcel {7 * i + visit}\n"
        for i in range(PEOPLE)
        for visit in range(1 + i % 5)
    )
    (tmp_path / "visits.csv").write_text("person,kind,visit,note\n" + rows)
    localsynth.init("ws", "visits.csv")
    path = tmp_path / "ws" / "localsynth.toml"
    text = path.read_text()
    assert 'unit = "row"\n' in text
    path.write_text(text.replace('unit = "row"\n', f'unit = "person"\nmax_rows_per_unit = {MOST}\n'))
    return tmp_path / "ws"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """What is called in the tests' own process finds the keys of the commands."""
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))


def session(localsynth, workspace, *overrides, **options):
    config = load_config(workspace / "localsynth.toml", [*localsynth.quick()[1::2], *overrides])
    return Session(Workspace(workspace), config, lambda event: None, lambda: False, Options(**options))


def ledger(workspace):
    return read_json(workspace / "ledger.json")["events"]


def test_unit_is_in_ledger_and_certificate_and_cannot_change(localsynth, visits, tmp_path):
    result = localsynth.ok("run", "ws", "--rows", 5, *localsynth.quick(), "--json").json()
    events = ledger(visits)
    budgets = [event for event in events if event["kind"] == "budget"]
    assert [event["budget"] for event in budgets] == ["ingest-size", "ingest"]
    for event in budgets:
        assert event["basis"] == {"unit": "person", "max_rows_per_unit": MOST, "size_declared": False}
    # About 300 people, and not the 900 rows: all that follows from the size counts people.
    size = read_json(visits / "schema.json")["size"]
    assert size["origin"] == "measured" and abs(size["units"] - PEOPLE) < 150
    plan = read_json(next((visits / "runs").glob("*/run.json")))["model"]["plan"]
    assert abs(plan["units"] - 0.9 * size["units"]) <= 1 and plan["sample_rate"] == plan["batch_size"] / plan["units"]

    certificate = read_json(tmp_path / result["certificate"])
    guarantee = certificate["guarantee"]
    assert (guarantee["unit"], guarantee["max_rows_per_unit"]) == ("person", MOST)
    assert "each value of the column 'person' with its up to 3 rows" in certificate["summary"]
    assert any("Rows without a value of 'person'" in sentence for sentence in certificate["not_covered"])
    assert localsynth.ok("verify", result["certificate"], "--json").json()["valid"]

    refused = localsynth("run", "ws", "--again", *localsynth.quick(), "--set", "privacy.unit=row")
    # Ingested again, it would be another guarantee, which cannot be added to what was spent under this one.
    assert refused.code == 4 and "budgets protect unit 'person' with at most 3 rows" in refused.err, refused.err
    for verb in ("ingest", "train"):
        with pytest.raises(ConfigError, match="settings have changed"):
            VERBS[verb](session(localsynth, visits, "privacy.unit=row", again=verb == "train"))
    assert ledger(visits) == events


def test_unfinished_run_does_not_resume_with_another_ingest(localsynth, visits):
    with (visits / "localsynth.toml").open("a") as configuration:
        configuration.write('\n[train]\nsynthesizer = "llm"\n')
    first = session(localsynth, visits, max_units=200)
    VERBS["ingest"](first)
    workspace, config = first.workspace, first.config
    model = ModelPlan(
        plan={
            **{"units": 180, "batch_size": 60, "sample_rate": 1 / 3, "steps": 3, "reserve": 2},
            **{"noise_multiplier": 2.0, "max_grad_norm": 1.0},
        },
        targets=["v_proj"],
        micro_batch_tokens=1024,
        base_sha256=file_sha256(localsynth.model),
    )
    table = finished_ingest(workspace)
    run = new_run(workspace, RunRecord(synthesizer="llm", settings=RunSettings.of(config), table=table, model=model))
    rows = workspace.private_path.read_bytes()
    VERBS["ingest"](session(localsynth, visits, max_units=250, again=True))
    assert finished_ingest(workspace) != table
    spent = ledger(visits)
    refused = localsynth("train", "ws", *localsynth.quick())
    assert refused.code == 2 and f"ingested again since run {run.id} began" in refused.err, refused.err
    with pytest.raises(ConfigError, match="ingested again"):
        VERBS["run"](session(localsynth, visits, again=True))
    assert ledger(visits) == spent and not (run.directory / "adapter").exists()

    # Its schema alone is not its table.
    table.write(workspace.schema_path)
    with pytest.raises(IntegrityError, match="not of the same ingest"):
        VERBS["train"](session(localsynth, visits))

    # With the table it began with, the very same run resumes.
    workspace.private_path.write_bytes(rows)
    trained = VERBS["train"](session(localsynth, visits, again=True))
    assert trained.run == run.id and trained.steps == 3
