"""A rehearsal reads nothing private, spends nothing, says what the real run will take, and is never taken for it."""

import pytest

from localsynth.config import load_config
from localsynth.errors import ConfigError
from localsynth.ingest.sources.open import open_source
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.init import initialise
from localsynth.pipeline.rehearse import prepare_rehearsal
from localsynth.pipeline.session import Session
from localsynth.privacy.noise import REHEARSAL_LABEL
from localsynth.system.files import read_json
from localsynth.workspace.paths import Workspace


@pytest.fixture
def workspace(localsynth, tickets, tmp_path):
    localsynth.init("ws", tickets)
    return tmp_path / "ws"


def keys(tmp_path):
    found = tmp_path / "home" / "workspaces"
    return {path.name for path in found.iterdir()} if found.exists() else set()


def contents(directory):
    """Every file but the lock, which says who was at work and holds no data."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".work.lock")
    return {path.relative_to(directory): path.read_bytes() for path in files}


def test_without_the_table_and_without_a_trace(localsynth, workspace, tickets, tmp_path):
    own_keys, before = keys(tmp_path), contents(workspace)
    tickets.unlink()
    size = ["--set", "privacy.public_size=300"]
    first = localsynth.ok("rehearse", "ws", "--steps", 2, *size, *localsynth.quick(count_texts=True), "--json").json()

    for name in ("ledger.json", "private.duckdb", "schema.json", "synthetic.duckdb", "runs"):
        assert not (workspace / name).exists(), name
    inside = workspace / "rehearsal"
    assert {path: data for path, data in contents(workspace).items() if path.parts[0] != "rehearsal"} == before
    registry = tmp_path / "home" / "registry.json"
    assert not registry.exists() or read_json(registry)["sources"] == {}
    first_id = read_json(inside / "workspace.json")["id"]
    assert keys(tmp_path) - own_keys == {first_id}

    assert first["units"] == 300 and first["units_origin"] == "declared"
    assert first["rehearsed"]["steps"] == 2 and first["rehearsed"]["rows"] == 40 and len(first["first_rows"]) == 3
    assert first["planned"]["steps"] == 4, "the forecast is of the real run's steps"
    seconds = first["forecast"]["seconds"]
    assert set(seconds) == {"ingest", "train", "export", "count_texts", "sample"} and all(value > 0 for value in seconds.values())
    sampling = first["rehearsed"]["seconds"]["sample"]
    assert seconds["sample"] == pytest.approx(sampling * 300 / 40), "the forecast is of the real run's rows"
    assert first["forecast"]["memory_bytes"] > 50e6

    (certificate,) = (inside / "runs").glob("*/certificate.json")
    verified = localsynth("verify", certificate, "--json")
    report = verified.json()
    assert verified.code == 6 and not report["valid"] and "not to be trusted" in report["summary"]
    failed = {finding["name"] for finding in report["findings"] if finding["status"] == "failed"}
    assert failed == {"noise"}, "it is its noise alone that gives it away"
    document = read_json(certificate)
    assert document["guarantee"]["noise"] == REHEARSAL_LABEL and "REHEARSAL" in document["summary"]
    assert document["signature"] is None

    second = localsynth.ok("rehearse", "ws", "--rows", 3, "--steps", 1, *size, *localsynth.quick(), "--json").json()
    assert second["rehearsed"]["rows"] == 3 and second["rehearsed"]["steps"] == 1
    second_id = read_json(inside / "workspace.json")["id"]
    assert second_id != first_id and keys(tmp_path) - own_keys == {second_id}, "the first one's key is gone"
    assert len(list((inside / "runs").iterdir())) == 1
    assert {path: data for path, data in contents(workspace).items() if path.parts[0] != "rehearsal"} == before


@pytest.mark.parametrize(
    ("table", "given"),
    [
        ("".join(f"{'ab'[i % 2]},{i % 40}\n" for i in range(200)), {"header": False}),
        ("kind,n,more\n" + "".join(f"{'ab'[i % 2]},{i % 40},x\n" for i in range(200)), {"columns": ["n", "kind"]}),
        ("2019;2020\n" + "".join(f"{'äb'[i % 2]};{i % 40}\n" for i in range(200)), {"header": True, "encoding": "latin-1"}),
    ],
    ids=["no header", "some columns", "numbers for names"],
)
def test_how_the_original_is_read_does_not_matter(tmp_path, monkeypatch, table, given):
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    path = tmp_path / "t.csv"
    path.write_text(table, encoding="latin-1")
    initialise(tmp_path / "ws", {"source": str(path), "missing": ["", "?"], **given}, lambda event: None)
    workspace = Workspace.open(tmp_path / "ws")
    config = load_config(workspace.config_path, ["privacy.public_size=150"])
    rehearsal = prepare_rehearsal(Session(workspace, config, lambda event: None, lambda: False))
    assert ingest(rehearsal).units == 150
    data = rehearsal.config.data
    assert open_source(data).columns == [column.name for column in config.schema_.columns]
    assert data.missing == ["", "?"] and data.description == config.data.description
    # The file it left is a configuration like any other.
    assert load_config(rehearsal.workspace.config_path) == rehearsal.config


def test_directory_that_is_no_rehearsal_is_left_alone(localsynth, workspace, tmp_path, monkeypatch):
    foreign = workspace / "rehearsal"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("the user's own")
    refused = localsynth("rehearse", "ws", *localsynth.quick())
    assert refused.code == 2 and "no earlier rehearsal" in refused.err, refused.err
    assert contents(foreign) == {(foreign / "notes.txt").relative_to(foreign): b"the user's own"}

    # Nor is a real workspace that somebody put there, whose key would go with it.
    (foreign / "notes.txt").unlink()
    real = Workspace.create(foreign)
    real.config_path.write_text("# a workspace\n")
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    key = real.keys_path / "key"
    key.write_text("secret")
    before = contents(foreign)
    config = load_config(workspace / "localsynth.toml", localsynth.quick()[1::2])
    with pytest.raises(ConfigError, match="no earlier rehearsal"):
        prepare_rehearsal(Session(Workspace(workspace), config, lambda event: None, lambda: False))
    assert contents(foreign) == before and key.read_text() == "secret"
