"""CSV and JSON lines have the formats of the columns; the database and Parquet have types. All of them are the same table."""

import csv
import datetime as dt
import json
from pathlib import Path

import pytest

from localsynth.ingest.parse import parse_value
from localsynth.sample.surrogates import Surrogates
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Identifier, Integer, Number, Record, Schema, Time
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.store.table_file import canonical_row, hash_table, read_rows

DAY, NOON = dt.date(2021, 8, 17), dt.datetime(2021, 8, 17, 12, 30, 15)
SCHEMA = Schema(
    columns=[
        Identifier(name="invoice", format="INV-2024-#####"),
        Number(name="price", min=-9999, max=9999, decimals=2, format="1.234,5 €"),
        Number(name="crp", min=0, max=99, decimals=1, below=0.5),
        Integer(name="installs", min=0, max=10**9, format="1,234+"),
        Boolean(name="smoker", format="Y/N"),
        Boolean(name="flag", format="1/0"),
        Date(name="born", min=dt.date(1900, 1, 1), max=dt.date(2030, 1, 1), format="%d.%m.%Y"),
        Date(name="month", min=dt.date(1900, 1, 1), max=dt.date(2030, 1, 1), format="%Y-%m"),
        DateTime(name="at", min=dt.datetime(2000, 1, 1), max=dt.datetime(2030, 1, 1), format="%Y-%m-%dT%H:%M:%SZ"),
        Time(name="time", format="%H.%M.%S"),
        Category(name="ward", values=["001", "002"]),
    ]
)
ORIGIN = Origin("run", "00", 0, 1.0, 1e-6, {}, {})
LEARNED: Record = dict(
    zip(
        [column.name for column in SCHEMA.learned()],
        [-1234.5, 0.1, 10_000, True, False, DAY, DAY, NOON, dt.datetime(1970, 1, 1, 18), "001"],
        strict=True,
    )
)
SPELLED = ["INV-2024-00001", "-1.234,50 €", "<0.5", "10,000+", "Y", "0", "17.08.2021", "2021-08", "2021-08-17T12:30:15Z"]
SPELLED += ["18.00.00", "001"]


@pytest.fixture
def rows() -> list[Record]:
    made = Surrogates(SCHEMA, 0)
    return [made.complete(0, LEARNED), made.complete(1, dict.fromkeys(LEARNED))]


@pytest.fixture
def store(tmp_path: Path, rows: list[Record]) -> SyntheticStore:
    store = SyntheticStore(tmp_path / "synthetic.duckdb")
    store.create_table(SCHEMA)
    job = store.open_job(ORIGIN, total=len(rows))
    store.append(job.number, job.first_row, rows)
    return store


def test_text_files_are_spelled_as_the_original_was(store: SyntheticStore, tmp_path: Path) -> None:
    store.export("csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        header, full, empty = csv.reader(file)
    assert header == [column.name for column in SCHEMA.columns]
    assert full == SPELLED and empty == ["INV-2024-00002", *[""] * 10]
    store.export("jsonl", tmp_path / "t.jsonl")
    assert list(json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0]).values()) == SPELLED
    store.export("csv", tmp_path / "s.csv", for_spreadsheets=True)
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "t.csv").read_text()


def test_what_is_exported_is_read_as_the_original_was(rows: list[Record]) -> None:
    for column, text in zip(SCHEMA.columns, SPELLED, strict=True):
        if not isinstance(column, Identifier):
            assert parse_value(column, text, [""]) == rows[0][column.name], column.name


def test_the_database_and_parquet_have_types(store: SyntheticStore, tmp_path: Path, rows: list[Record]) -> None:
    assert list(store.records()) == rows
    _, found = store.query('select invoice, price + 1, smoker, month, "time" from synthetic')
    assert found[0] == ("INV-2024-00001", -1233.5, True, dt.date(2021, 8, 1), dt.time(18, 0))
    store.export("parquet", tmp_path / "t.parquet")
    first = next(read_rows(tmp_path / "t.parquet", SCHEMA))
    assert first[1] == "-1234.5" and first[4] == "true"


def test_every_file_format_has_the_same_hash(store: SyntheticStore, tmp_path: Path, rows: list[Record]) -> None:
    """So a signed manifest fits each of them, and rows that are sampled again can be compared."""
    hashes = set()
    for kind in ("csv", "jsonl", "parquet"):
        store.export(kind, tmp_path / f"t.{kind}")
        hashes.add(hash_table(tmp_path / f"t.{kind}", SCHEMA))
        assert list(read_rows(tmp_path / f"t.{kind}", SCHEMA)) == [canonical_row(list(row.values()), SCHEMA) for row in rows]
    assert len(hashes) == 1


def test_a_table_of_the_same_types_takes_the_new_formats(store: SyntheticStore, tmp_path: Path) -> None:
    columns = [
        column.model_copy(update={"format": "ja/nein"}) if column.name == "smoker" else column for column in SCHEMA.columns
    ]
    store.create_table(Schema(columns=columns))
    store.export("csv", tmp_path / "t.csv")
    assert ",ja,0," in (tmp_path / "t.csv").read_text()
