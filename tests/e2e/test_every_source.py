"""The same table from every kind of source ends in the same private table."""

import csv
import gzip
import json

import duckdb
import pytest

from localsynth.config import load_config
from localsynth.store.private import PrivateStore
from localsynth.workspace.paths import Workspace

FORMATS = ["csv", "csv.gz", "tsv", "jsonl", "parquet", "duckdb"]


def write(form, rows, directory):
    path = directory / f"source.{form}"
    header, body = rows[0], rows[1:]
    if form in ("csv", "tsv"):
        with path.open("w", newline="") as out:
            csv.writer(out, delimiter="," if form == "csv" else "\t").writerows(rows)
    elif form == "csv.gz":
        with gzip.open(path, "wt", newline="") as out:
            csv.writer(out).writerows(rows)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in body))
    else:
        plain = write("csv", rows, directory)
        if form == "parquet":
            duckdb.sql(f"copy (select * from '{plain}') to '{path}'")
        else:
            with duckdb.connect(str(path)) as connection:
                connection.execute(f"create table tickets as select * from '{plain}'")
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_source(localsynth, tickets, tmp_path, form, monkeypatch):
    with tickets.open() as file:
        path = write(form, list(csv.reader(file)), tmp_path)
    table = ["--table", "tickets"] if form == "duckdb" else []
    localsynth.ok("init", "ws", "--data", path, *table)
    localsynth.ok("ingest", "ws", "--set", "privacy.public_size=400")
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    workspace = Workspace.open(tmp_path / "ws")
    schema = load_config(workspace.config_path).schema_
    with PrivateStore.open(workspace) as store:
        records = [record for split in ("train", "holdout") for _, record in store.records(split, schema)]
    assert len(records) == 400
    assert {column.kind for column in schema.learned()} >= {"category", "integer", "number", "date", "text"}
    assert sum(record["note"] is None for record in records) == 24
    assert all(isinstance(record["amount"], int) for record in records)
