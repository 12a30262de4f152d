import csv
import dataclasses
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.schema.columns import (
    Boolean,
    Category,
    Date,
    DateTime,
    Identifier,
    Integer,
    Number,
    Record,
    Schema,
    Surrogate,
    Text,
)
from localsynth.store.synthetic import ExportFormat, Job, Origin, SyntheticStore
from localsynth.system.lock import file_lock

ODD = 'a "quoted"; name, --'
SCHEMA = Schema(
    columns=[
        Identifier(name="id"),
        Surrogate(name="row_number", of="name"),
        Category(name=ODD, values=["x"], other="other"),
        Integer(name="select", min=0, max=9),
        Number(name="größe 📏", min=0, max=1e15, decimals=2),
        Number(name="c0", min=-1, max=1e15, decimals=6),
        Boolean(name="flag"),
        Date(name="day", min=dt.date(2000, 1, 1), max=dt.date(2030, 1, 1)),
        DateTime(name="moment", min=dt.datetime(2000, 1, 1), max=dt.datetime(2030, 1, 1)),
        Text(name="note"),
    ]
)
NAMES = [column.name for column in SCHEMA.columns]
FULL: Record = dict(
    zip(
        NAMES,
        [1, "Ann", "x", 3, 12.5, -0.000001, True, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 3, 4, 5), 'two\nlines, "q"'],
        strict=True,
    )
)
EMPTY: Record = {**dict.fromkeys(NAMES), "id": 2, "note": ""}
ORIGIN = Origin("r", "ab" * 32, 7, 4.0, 1e-6, {"temperature": 1.0}, {})
SMALL = Schema(columns=[Integer(name="n", min=0, max=10**9)])


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    store = SyntheticStore(tmp_path / "synthetic.duckdb", wait_seconds=0.3)
    store.create_table(SCHEMA)
    return store


@pytest.fixture
def small(tmp_path: Path) -> SyntheticStore:
    store = SyntheticStore(tmp_path / "small.duckdb", wait_seconds=0.3)
    store.create_table(SMALL)
    return store


def numbers(first: int, count: int) -> list[Record]:
    return [{"n": n} for n in range(first, first + count)]


def test_rows_round_trip_under_the_users_names(store: SyntheticStore) -> None:
    assert store.append(1, 1, [FULL, EMPTY])
    assert list(store.records()) == [FULL, EMPTY]
    columns, rows = store.query("select * from synthetic")
    assert columns == NAMES
    assert rows == [tuple(FULL.values()), tuple(EMPTY.values())]
    assert store.query(f'select "größe 📏", "{ODD.replace(chr(34), chr(34) * 2)}" from synthetic where "select" = 3')[1] == [
        (12.5, "x")
    ]


def test_rows_are_ordered_by_number(small: SyntheticStore) -> None:
    job = small.open_job(ORIGIN, total=5).number
    small.append(job, 3, numbers(3, 2))
    small.append(job, 1, numbers(1, 2))
    assert [n for (n,) in small.query("select * from synthetic")[1]] == [1, 2, 3, 4]
    found = small.query("select row_number, chunk, run, model_sha256, seed, epsilon, delta, asked from provenance")[1]
    facts = ("r", "ab" * 32, 7, 4.0, 1e-6, "{}")
    assert found == [(1, 1, *facts), (2, 1, *facts), (3, 3, *facts), (4, 3, *facts)]


def test_same_chunk_again_has_no_effect(small: SyntheticStore) -> None:
    assert small.append(1, 1, numbers(1, 3))
    assert not small.append(1, 1, numbers(1, 3))
    assert small.row_count() == 3


def test_overlapping_row_numbers_are_refused(small: SyntheticStore) -> None:
    small.append(1, 1, numbers(1, 3))
    for job, first in ((1, 3), (2, 1)):
        with pytest.raises(IntegrityError, match="already holds"):
            small.append(job, first, numbers(first, 3))
    assert small.row_count() == 3


def test_append_is_atomic(small: SyntheticStore) -> None:
    with pytest.raises(KeyError):
        small.append(1, 1, [{"n": 1}, {}])
    with pytest.raises(ValueError, match="invalid literal"):
        small.append(1, 1, [{"n": 1}, {"n": "not a number"}])
    assert small.row_count() == 0


def fill(store: SyntheticStore, job: Job, count: int) -> None:
    """Write the next `count` rows of a job."""
    first = job.first_row + job.done
    store.append(job.number, first, numbers(first, count))


def test_interrupted_job_is_resumed(small: SyntheticStore) -> None:
    fill(small, small.open_job(ORIGIN, total=10), 4)
    assert small.open_job(ORIGIN, total=10) == Job(1, 0, 10, 4)
    assert small.open_job(ORIGIN, total=3) == Job(1, 0, 4, 4), "rows that are there stay"
    fill(small, small.open_job(ORIGIN, total=10), 6)
    assert small.open_job(ORIGIN, total=12) == Job(1, 0, 12, 10)
    (job,) = small.jobs()
    assert (job["run"], job["settings"], job["asked"], job["first_row"], job["rows"]) == ("r", {"temperature": 1.0}, {}, 0, 12)


def test_more_resumes_until_the_job_is_closed(small: SyntheticStore) -> None:
    fill(small, small.open_job(ORIGIN, total=5), 5)
    fill(small, small.open_job(ORIGIN, more=4), 1)
    again = small.open_job(ORIGIN, more=4)
    assert (again.rows, again.done) == (9, 6), "killed after one of the four, three are missing"
    fill(small, again, 3)
    again = small.open_job(ORIGIN, more=4)
    assert (again.rows, again.done) == (9, 9), "killed after the last of the four, before anybody was told"
    small.close_job(again.number)
    assert small.open_job(ORIGIN, more=4).rows == 13, "a finished request is a new one"
    assert small.open_job(ORIGIN, more=2).rows == 11, "another number is another wish"


def test_another_model_or_condition_is_another_job(small: SyntheticStore) -> None:
    fill(small, small.open_job(ORIGIN, total=5), 3)
    other = small.open_job(dataclasses.replace(ORIGIN, asked={"where": "n = 1"}), more=4)
    assert other == Job(2, 3, 4, 0)
    fill(small, other, 4)
    third = small.open_job(dataclasses.replace(ORIGIN, model_sha256="cd" * 32), total=10)
    assert third == Job(3, 7, 3, 0)
    fill(small, third, 3)
    assert [(job["first_row"], job["rows"]) for job in small.jobs()] == [(0, 3), (3, 4), (7, 3)]
    assert small.query("select job, count(*) from provenance group by job order by job")[1] == [(1, 3), (2, 4), (3, 3)]
    assert small.row_count("r") == 10 and small.row_count("other") == 0


def test_creation_time_is_kept_to_the_day(small: SyntheticStore) -> None:
    """How long training took depends on the private rows, and its beginning is known to the day from the ledger."""
    before = dt.datetime.now(dt.UTC).date()
    small.open_job(ORIGIN, total=1)
    (job,) = small.jobs()
    assert before.isoformat() <= job["created"] <= dt.datetime.now(dt.UTC).date().isoformat()
    assert len(job["created"]) == len("2026-11-23")
    columns, ((created, kind),) = small.query("select created, typeof(created) from jobs")
    assert columns[0] == "created" and kind == "DATE" and not isinstance(created, dt.datetime)
    _, moments = small.query("select column_name from duckdb_columns() where data_type like 'TIME%' and not internal")
    assert moments == []


def test_create_table_twice_and_with_another_schema(small: SyntheticStore) -> None:
    small.append(1, 1, numbers(1, 3))
    small.create_table(SMALL)
    assert small.row_count() == 3
    with pytest.raises(ConfigError, match="other columns"):
        small.create_table(SCHEMA)
    small.clear()
    assert small.row_count() == 0
    small.create_table(SCHEMA)
    assert small.row_count() == 0


def test_no_table_yet(tmp_path: Path) -> None:
    store = SyntheticStore(tmp_path / "synthetic.duckdb")
    assert store.row_count() == 0
    for ask in (lambda: store.query("select 1"), lambda: store.export("csv", tmp_path / "x.csv"), lambda: store.jobs()):
        with pytest.raises(ConfigError, match="no synthetic table"):
            ask()
    assert not (tmp_path / "synthetic.duckdb").exists()


def test_file_that_is_not_duckdb(tmp_path: Path) -> None:
    path = tmp_path / "synthetic.duckdb"
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(IntegrityError, match="cannot be opened"):
        SyntheticStore(path).query("select 1")


# --- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "with t as (select n from synthetic) select max(n) from t",
        "select n from synthetic order by n desc limit 1;",
        "from synthetic select max(n)",
        "values (3)",
    ],
)
def test_select_like_statements_are_answered(small: SyntheticStore, sql: str) -> None:
    small.append(1, 1, numbers(1, 3))
    assert small.query(sql)[1] == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "nonsense",
        "select nothing from synthetic",
        "select 1; select 2",
        "select 1; drop view synthetic",
        "insert into numbered_rows values (9, 'r', 9, 9)",
        "delete from jobs",
        "create table t as select 1",
        "create temp table t as select 1",
        "drop view synthetic",
        "explain analyze delete from jobs",
        "attach '{dir}/other.duckdb'",
        "copy synthetic to '{dir}/out.csv'",
        "explain analyze copy synthetic to '{dir}/out.csv'",
        "export database '{dir}/out'",
        "select * from read_text('{dir}/secret.txt')",
        "select * from read_csv('{dir}/secret.txt')",
        "select * from '{dir}/secret.txt'",
        "select * from read_blob('/etc/hostname')",
        "select * from glob('{dir}/*')",
        "select * from local_variable",
        "set enable_external_access = true",
        "pragma enable_progress_bar",
        "install httpfs",
        "load httpfs",
        "checkpoint",
    ],
)
def test_query_cannot_write_or_read_other_files(small: SyntheticStore, tmp_path: Path, sql: str) -> None:
    local_variable = [1]
    small.append(1, 1, numbers(1, 3))
    (tmp_path / "secret.txt").write_text("a\nsecret\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    content = (tmp_path / "small.duckdb").read_bytes()
    with pytest.raises(ConfigError) as caught:
        small.query(sql.replace("{dir}", str(tmp_path)))
    assert "secret\n" not in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "small.duckdb").read_bytes() == content
    assert local_variable == [1]


# --- export -----------------------------------------------------------------------------------------------------------


def test_csv_export(store: SyntheticStore, tmp_path: Path) -> None:
    store.append(1, 1, [FULL, EMPTY])
    assert store.export("csv", tmp_path / "out file's.csv") == 2
    text = (tmp_path / "out file's.csv").read_text(encoding="utf-8")
    header, first, second = csv.reader(text.splitlines(keepends=True))
    assert header == NAMES
    expected = ["1", "Ann", "x", "3", "12.50", "-0.000001", "true", "2020-01-02", "2020-01-02 03:04:05", 'two\nlines, "q"']
    assert first == expected
    assert second == ["2", *[""] * 9]
    # An empty text and a null are told apart.
    assert text.endswith(',,,,,,,,""\n')


def test_jsonl_export(store: SyntheticStore, tmp_path: Path) -> None:
    store.append(1, 1, [FULL, EMPTY])
    store.export("jsonl", tmp_path / "out.jsonl")
    first, second = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(first) == NAMES
    assert first["größe 📏"] == 12.5
    assert first["day"] == "2020-01-02"
    assert first["note"] == FULL["note"]
    assert second == EMPTY


def test_parquet_export(store: SyntheticStore, tmp_path: Path) -> None:
    store.append(1, 1, [FULL, EMPTY])
    store.export("parquet", tmp_path / "out.parquet")
    with duckdb.connect(":memory:") as connection:
        found = connection.execute("select * from read_parquet(?)", [str(tmp_path / "out.parquet")])
        assert [column[0] for column in found.description] == NAMES
        rows = found.fetchall()
    assert [float(rows[0][4]), rows[0][7], rows[1][9]] == [12.5, dt.date(2020, 1, 2), ""]


@pytest.mark.parametrize("file_format", ["csv", "parquet", "jsonl"])
def test_export_overwrites_only_if_allowed(small: SyntheticStore, tmp_path: Path, file_format: ExportFormat) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        small.export(file_format, out)
    assert out.read_text() == "mine"
    small.append(1, 1, numbers(1, 3))
    assert small.export(file_format, out, overwrite=True) == 3
    assert out.read_bytes() != b"mine"


def test_export_to_impossible_places(small: SyntheticStore, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent" / "out.csv"):
        with pytest.raises(ConfigError, match="cannot be a file"):
            small.export("csv", place, overwrite=True)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (duckdb.IOException, 'Could not write file "x.wal": No space left on device'),
        (duckdb.TransactionException, 'Failed to commit: Could not write file "x.wal": No space left on device'),
    ],
)
def test_full_disk_is_reported_at_opening_and_at_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[duckdb.Error], text: str
) -> None:
    store = SyntheticStore(tmp_path / "synthetic.duckdb")
    store.create_table(SCHEMA)

    class Full:
        def execute(self, sql: str, *_: Any) -> Any:
            if sql == "COMMIT":
                raise kind(text)
            return duckdb.connect().execute("select 1, 1")

        def close(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(store, "_connect", lambda *_: Full())
        with pytest.raises(ResourceError, match="Cannot write") as caught:
            store.close_job(1)
        assert "Free some disk space" in caught.value.hint

    def full(*_: Any, **__: Any) -> Any:
        raise kind(text)

    monkeypatch.setattr(duckdb, "connect", full)
    with pytest.raises(ResourceError, match="Cannot write"):
        store.close_job(1)


def test_disk_that_is_full_for_a_new_table_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SyntheticStore(tmp_path / "synthetic.duckdb")

    def full(path: str, **_: Any) -> Any:
        Path(path).write_bytes(b"begun")
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(duckdb, "connect", full)
    with pytest.raises(ResourceError, match="Cannot write"):
        store.create_table(SCHEMA)
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_failed_export_keeps_the_old_file(small: SyntheticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(ResourceError, match="Cannot write"):
        small.export("csv", out, overwrite=True)
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


# --- other processes --------------------------------------------------------------------------------------------------

HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.readline()
time.sleep(0.5)
"""


@pytest.mark.parametrize("mode", ["read", "write"])
def test_busy_file_is_waited_for_then_reported(small: SyntheticStore, tmp_path: Path, mode: str) -> None:
    small.append(1, 1, numbers(1, 3))
    path = tmp_path / "small.duckdb"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path), mode], **pipes) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ResourceError, match="in use by another process"):
            small.append(1, 4, numbers(4, 1))
        if mode == "write":
            with pytest.raises(ResourceError, match="in use by another process"):
                small.query("select 1")
        other.stdin.close()  # it lets go half a second later
        assert SyntheticStore(path).append(1, 4, numbers(4, 1))
    assert small.row_count() == 4


def test_concurrent_readers_and_writer(tmp_path: Path) -> None:
    # On a busy machine the reader may have the file again and again before the writer looks.
    store = SyntheticStore(tmp_path / "synthetic.duckdb", wait_seconds=120)
    store.create_table(SMALL)
    counts: list[int] = []

    def write() -> None:
        for chunk in range(10):
            store.append(1, 1 + 5 * chunk, numbers(5 * chunk, 5))

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():  # as often as it can, so that the two do meet
        counts.append(store.query("select count(*) from synthetic")[1][0][0])
    writer.join()
    assert store.row_count() == 50
    assert counts and all(count % 5 == 0 for count in counts) and counts == sorted(counts)


KILLED = """
import os, signal, sys
from pathlib import Path
from localsynth.store import synthetic
store = synthetic.SyntheticStore(Path(sys.argv[1]))
store.append(1, 1, [{"n": 1}, {"n": 2}])
insert = synthetic.insert_rows
def insert_and_die(*arguments):
    insert(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
synthetic.insert_rows = insert_and_die
store.append(1, 3, [{"n": 3}, {"n": 4}])
"""


def test_killed_writer_loses_only_its_open_chunk(small: SyntheticStore, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "small.duckdb")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert small.row_count() == 2
    assert small.append(1, 3, numbers(3, 2))
    assert [record["n"] for record in small.records()] == [1, 2, 3, 4]


KILLED_AT_THE_BEGINNING = """
import os, signal, sys
from pathlib import Path
from localsynth.schema.columns import Integer, Schema
from localsynth.store import synthetic
def connect_and_die(path, **options):
    Path(path).touch()  # as DuckDB leaves it before it has written the header
    os.kill(os.getpid(), signal.SIGKILL)
synthetic.duckdb.connect = connect_and_die
synthetic.SyntheticStore(Path(sys.argv[1])).create_table(Schema(columns=[Integer(name="n", min=0, max=10**9)]))
"""


def test_writer_killed_while_creating_the_file_blocks_nobody(tmp_path: Path) -> None:
    store = SyntheticStore(tmp_path / "new.duckdb")
    done = subprocess.run([sys.executable, "-c", KILLED_AT_THE_BEGINNING, str(tmp_path / "new.duckdb")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.row_count() == 0
    store.create_table(SMALL)
    assert store.append(1, 1, numbers(1, 2)) and store.row_count() == 2
    assert not list(tmp_path.glob(".*.part"))


def test_second_writer_is_refused_and_names_the_holder(small: SyntheticStore, tmp_path: Path) -> None:
    with file_lock(tmp_path / ".small.lock", "It"), pytest.raises(ResourceError, match=f"in use by process {os.getpid()} "):
        small.append(1, 1, numbers(1, 1))
    assert small.append(1, 1, numbers(1, 1))
