import datetime as dt
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.marginals.domain import Domain
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
    Text,
    Time,
    Value,
)
from localsynth.schema.ordinals import MISSING, to_ordinal
from localsynth.store import encryption
from localsynth.store.key import key_path
from localsynth.store.private import PrivateStore, PrivateWriter, keep_artifact
from localsynth.workspace.paths import Workspace

SCHEMA = Schema(
    columns=[
        Identifier(name="id"),
        Category(name='odd "name"; --'),
        Integer(name="select"),
        Number(name="größe 📏", decimals=2),
        Boolean(name="flag"),
        Date(name="day"),
        DateTime(name="moment"),
        Text(name="note"),
    ]
)
ROWS: list[list[Value]] = [
    ["a", 1, 1.25, True, dt.date(2020, 2, 29), dt.datetime(2020, 1, 1, 23, 59, 58), "line\nbreak 'quoted' \"twice\""],
    [None, None, None, None, None, None, None],
    ["b", -(2**62), -0.01, False, dt.date(1, 1, 1), dt.datetime(9999, 12, 31, 0, 0), "émoji 🎈"],
]
NAMES = [column.name for column in SCHEMA.learned()]
ONE_TEXT = Schema(columns=[Text(name="note")])


def add(writer: PrivateWriter, rows: Sequence[tuple[str | None, Sequence[Value]]]) -> None:
    units, values = zip(*rows, strict=True)
    columns = zip(*values, strict=True)
    elements = [list(map(element, column)) for element, column in zip(writer.elements, columns, strict=True)]
    writer.add_columns(len(rows), elements, units)


def fill(
    workspace: Workspace, schema: Schema, rows: Sequence[tuple[str | None, list[Value]]], holdout: Sequence[bool] = ()
) -> None:
    with PrivateWriter(workspace, schema) as writer:
        add(writer, rows)
        units = writer.number_units()
        writer.assign_splits(0, [True] * units, [*holdout, *[False] * (units - len(holdout))])
        writer.finish(1000, {"source_sha256": "ab"})


def as_records(rows: list[list[Value]]) -> list[Record]:
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def test_typed_rows_round_trip(workspace: Workspace) -> None:
    fill(workspace, SCHEMA, [(None, row) for row in ROWS])
    with PrivateStore.open(workspace) as store:
        assert list(store.records("train", SCHEMA)) == list(enumerate(as_records(ROWS)))
        assert store.column_counts(1, "train") == {1: 1, -(2**62): 1}
        assert store.info()["source_sha256"] == "ab"


def test_splits_units_and_counts(workspace: Workspace) -> None:
    rows = [(unit, row) for unit, row in zip(["u", "v", "u"], ROWS, strict=True)]
    fill(workspace, SCHEMA, rows, holdout=[False, True])
    with PrivateStore.open(workspace) as store:
        assert store.units("train").tolist() == [0]
        assert store.units("holdout").tolist() == [1]
        assert [store.column_counts(0, split) for split in ("train", "holdout")] == [{"a": 1, "b": 1}, {}]
        assert [record for _, record in store.records("train", SCHEMA)] == as_records([ROWS[0], ROWS[2]])
        assert [unit for unit, _ in store.records("holdout", SCHEMA)] == [1]


def test_conforming_rows_by_unit(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [("u", ["a"]), ("v", [None]), ("u", [None]), ("w", ["c"]), ("u", ["b"])])
    needed = Schema(columns=[Text(name="note", nullable=False)])
    with PrivateStore.open(workspace) as store:
        notes = [[row["note"] for row in unit] for unit in store.conformed_units("train", needed)]
        assert notes == [["a", "b"], [], ["c"]]


def test_records_of_some_units_and_of_none(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, [f"t{i}"]) for i in range(10)])
    with PrivateStore.open(workspace) as store:
        assert [record["note"] for _, record in store.records("train", ONE_TEXT, [7, 2])] == ["t2", "t7"]
        assert list(store.records("train", ONE_TEXT, [])) == []
        assert list(store.records("train", ONE_TEXT, [99])) == []


def test_several_open_iterators(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, [f"t{i}"]) for i in range(5000)])
    with PrivateStore.open(workspace) as store:
        outer = store.records("train", ONE_TEXT)
        first = next(outer)
        assert len(store.units("train")) == 5000
        assert sum(1 for _ in store.records("train", ONE_TEXT)) == 5000
        assert [first, *outer][-1] == (4999, {"note": "t4999"})


def test_order_holds_over_many_row_groups(workspace: Workspace) -> None:
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        for start in range(0, 300_000, 50_000):
            add(writer, [(str((start + i) % 100_000), [None]) for i in range(50_000)])
        units = writer.number_units()
        writer.assign_splits(0, [True] * units, [False] * units)
        assert writer.finish(3, {}) == (300_000, 100_000)
    with PrivateStore.open(workspace) as store:
        assert [unit for unit, _ in store.records("train", ONE_TEXT)] == [i // 3 for i in range(300_000)]


def test_units_not_kept_or_not_assigned_are_left_out(workspace: Workspace) -> None:
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        add(writer, [(None, ["a"]), (None, ["b"]), (None, ["c"])])
        assert writer.number_units() == 3
        writer.assign_splits(0, [False, True], [False, False])
        assert writer.finish(1, {}) == (1, 1)
    with PrivateStore.open(workspace) as store:
        assert [record["note"] for _, record in store.records("train", ONE_TEXT)] == ["b"]


@pytest.mark.parametrize(("unit", "most", "good"), [("who", "3", True), ("who", "2", False), ("row", "3", False)])
def test_store_with_too_many_rows_of_a_unit_is_refused(workspace: Workspace, unit: str, most: str, good: bool) -> None:
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        add(writer, [("u", ["a"]), ("u", ["b"]), ("u", ["c"]), ("v", ["d"])])
        writer.assign_splits(0, [True] * writer.number_units(), [False, False])
        writer.finish(3, {"unit": unit, "max_rows_per_unit": most})
    with PrivateStore.open(workspace) as store:
        if good:
            store.check_readable()
        else:
            with pytest.raises(IntegrityError, match="more rows than"):
                store.check_readable()


def test_rows_of_lowest_priority_number_are_kept(workspace: Workspace) -> None:
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        add(writer, [("u", ["a"]), ("u", ["b"]), ("u", ["c"]), ("v", ["d"])])
        writer.assign_splits(0, [True] * writer.number_units(), [False, False])
        writer.add_priorities(1, [2**61, 5, 4, 2**62 - 1])
        assert writer.finish(2, {}) == (3, 2)
    with PrivateStore.open(workspace) as store:
        assert [record["note"] for _, record in store.records("train", ONE_TEXT)] == ["b", "c", "d"]


def test_rows_without_unit_value_are_units_of_their_own(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [("u", ["a"]), (None, ["b"]), ("u", ["c"]), (None, ["d"])])
    with PrivateStore.open(workspace) as store:
        assert [(unit, record["note"]) for unit, record in store.records("train", ONE_TEXT)] == [
            (0, "a"),
            (0, "c"),
            (1, "b"),
            (2, "d"),
        ]


def test_changed_schema_is_refused(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, ["a"])])
    with PrivateStore.open(workspace) as store:
        for other in (Schema(columns=[Text(name="other")]), Schema(columns=[Integer(name="note")])):
            with pytest.raises(ConfigError, match="changed since"):
                list(store.records("train", other))
        # What does not change how rows are stored may change.
        assert len(list(store.records("train", Schema(columns=[Text(name="note", max_tokens=9)])))) == 1


# --- encryption and the files -----------------------------------------------------------------------------------------

PLANTED = "PLANTEDvalue"


def files_holding(root: Path, needle: bytes) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_no_original_value_is_readable_on_disk_while_spilling(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With very little memory DuckDB moves the rows to temporary files: those must be there, and unreadable."""
    connect = encryption.connect
    monkeypatch.setattr("localsynth.store.private.connect", lambda spill=None: connect(spill, memory="40MB"))
    spilled = 0
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        for batch in range(15):
            add(writer, [(f"{PLANTED}unit{batch}{i}", [f"{PLANTED} {os.urandom(500).hex()}"]) for i in range(4000)])
        spilled = sum(path.stat().st_size for path in workspace.root.glob(".private.spill/*"))
        assert files_holding(workspace.root, PLANTED.encode()) == []
    assert spilled > 10 * 2**20


def test_finished_file_is_encrypted_and_nothing_else_is_left(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(f"{PLANTED}{i}", [f"{PLANTED}{i}"]) for i in range(5000)])
    assert {path.name for path in workspace.root.iterdir()} == {"workspace.json", "private.duckdb", ".private.lock"}
    assert files_holding(workspace.root, PLANTED.encode()) == []
    assert stat.S_IMODE(workspace.private_path.stat().st_mode) == 0o600


def test_cipher_is_authenticated(tmp_path: Path) -> None:
    connection = encryption.connect()
    encryption.attach(connection, tmp_path / "x.duckdb", "ab" * 32, read_only=False)
    found = connection.execute("SELECT encrypted, cipher FROM duckdb_databases() WHERE database_name = 'private'")
    assert found.fetchall() == [(True, "GCM")]


def test_key_is_random_private_and_outside_the_workspace(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, ["a"])])
    path = key_path(workspace)
    assert not path.is_relative_to(workspace.root)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert files_holding(workspace.root, path.read_bytes().strip()) == []
    first = path.read_text()
    path.unlink()
    fill(workspace, ONE_TEXT, [(None, ["a"])])
    assert path.read_text() != first


def test_missing_wrong_and_malformed_keys(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, ["a"])])
    path = key_path(workspace)
    path.write_text("00" * 32)
    with pytest.raises(IntegrityError, match="does not fit"):
        PrivateStore.open(workspace)
    path.write_text("not a key")
    with pytest.raises(IntegrityError, match="does not hold a key"):
        PrivateStore.open(workspace)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        PrivateStore.open(workspace)


def test_open_before_ingest_is_a_config_error(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="no ingested data") as caught:
        PrivateStore.open(workspace)
    assert "localsynth ingest" in caught.value.hint


def read_all(workspace: Workspace) -> None:
    with PrivateStore.open(workspace) as store:
        list(store.records("train", ONE_TEXT))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
def test_changed_byte_or_truncation_is_detected(workspace: Workspace, part: float) -> None:
    fill(workspace, ONE_TEXT, [(None, [os.urandom(200).hex()]) for _ in range(6000)])
    whole = workspace.private_path.read_bytes()
    damaged = bytearray(whole)
    for offset in range(int(part * len(whole)), int(part * len(whole)) + 4096):
        damaged[offset] ^= 1
    workspace.private_path.write_bytes(damaged)
    with pytest.raises(IntegrityError, match="damaged") as caught:
        read_all(workspace)
    assert caught.value.__cause__ is None
    workspace.private_path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(IntegrityError, match="damaged"):
        read_all(workspace)


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_unfinished_writer_keeps_the_old_store(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, ["old"])])
    before = workspace.private_path.read_bytes()
    with PrivateWriter(workspace, ONE_TEXT) as writer:
        add(writer, [(None, ["new"])])
    assert workspace.private_path.read_bytes() == before
    assert {path.name for path in workspace.root.iterdir()} == {"workspace.json", "private.duckdb", ".private.lock"}


def test_two_writers_at_once_are_refused(workspace: Workspace) -> None:
    with PrivateWriter(workspace, ONE_TEXT), pytest.raises(ResourceError, match="in use by process"):
        PrivateWriter(workspace, ONE_TEXT)
    PrivateWriter(workspace, ONE_TEXT).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from localsynth.schema.columns import Schema, Text
from localsynth.store.private import PrivateWriter
from localsynth.workspace.paths import Workspace
writer = PrivateWriter(Workspace(Path(sys.argv[1])), Schema(columns=[Text(name="note")]))
writer.add_columns(1, [["x"]])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_writer_leaves_no_store_and_is_cleaned_up(workspace: Workspace) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(workspace.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not workspace.private_path.exists()
    assert list(workspace.root.glob(".private.duckdb.*.part"))
    fill(workspace, ONE_TEXT, [(None, ["a"])])
    assert {path.name for path in workspace.root.iterdir()} == {"workspace.json", "private.duckdb", ".private.lock"}


def test_reader_continues_while_a_new_store_is_written(workspace: Workspace) -> None:
    fill(workspace, ONE_TEXT, [(None, ["old"])])
    with PrivateStore.open(workspace) as store:
        fill(workspace, ONE_TEXT, [(None, ["new"])])
        assert [record for _, record in store.records("train", ONE_TEXT)] == [{"note": "old"}]
    with PrivateStore.open(workspace) as store:
        assert [record for _, record in store.records("train", ONE_TEXT)] == [{"note": "new"}]


def test_artifact_is_encrypted_and_replaced(workspace: Workspace) -> None:
    fill(workspace, SCHEMA, [(None, row) for row in ROWS])
    with PrivateStore.open(workspace) as store:
        assert store.artifact("audit") is None
        keep_artifact(workspace, "audit", {"canaries": "first"})
        keep_artifact(workspace, "audit", {"canaries": "second"})
        assert len(list(store.records("train", SCHEMA))) == len(ROWS), "a reader continues with the file it opened"
    with PrivateStore.open(workspace) as store:
        assert store.artifact("audit") == {"canaries": "second"} and store.artifact("other") is None
        assert list(store.records("train", SCHEMA)) == list(enumerate(as_records(ROWS)))
    assert b"tossed" not in workspace.private_path.read_bytes()
    assert stat.S_IMODE(workspace.private_path.stat().st_mode) == 0o600
    assert not list(workspace.root.glob(".private.duckdb.*"))


DATE, MOMENT = dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 12, 30, 15)
CONFORMED = [
    Category(name="to other", values=["a", "it's"], other="b"),
    Category(name="to null", values=["a", "b"], outside="null"),
    Category(name="dropped", values=["a", "it's"], outside="drop"),
    Category(name="without other", values=["a", "b"], nullable=False),
    Boolean(name="yes", nullable=False),
    Integer(name="n", min=-1, max=2),
    Integer(name="n null", min=-1, max=2, outside="null"),
    Integer(name="n null drops", min=-1, max=2, outside="null", nullable=False),
    Integer(name="wide", min=-(2**62), max=2**62),
    Integer(name="by twos", min=-2, max=3, step=2),
    Number(name="by steps", min=-0.15, max=0.2, decimals=2, step=0.1),
    Number(name="x", min=-0.15, max=0.2, decimals=2, outside="drop"),
    Number(name="x wide", min=-1e15, max=1e15, decimals=9),
    Date(name="day", min=DATE, max=dt.date(2020, 1, 3)),
    DateTime(name="moment", min=MOMENT, max=MOMENT + dt.timedelta(seconds=2)),
    Time(name="time", max=dt.datetime(1970, 1, 1, 12, 0)),
]


def some_rows(rows):
    random = np.random.default_rng(3)
    near = {
        Category: ["a", "b", "it's", "c"],
        Boolean: [True, False],
        Integer: [-(2**62), -2, -1, 0, 2, 3, 2**62],
        Number: [-1e15, -0.16, -0.15, 0.0, 0.07, 0.2, 0.21, 1e15],
        Date: [DATE + dt.timedelta(days=days) for days in (-1000, -1, 0, 2, 3)],
        DateTime: [MOMENT + dt.timedelta(seconds=seconds) for seconds in (-1, 0, 1, 2, 3)],
        Time: [dt.datetime(1970, 1, 1, hour, minute) for hour in (0, 12) for minute in (0, 1)],
    }
    for _ in range(rows):
        choices = [[None, *near[type(column)] * 3] for column in CONFORMED]
        yield [some[random.integers(len(some))] for some in choices]


@pytest.mark.parametrize("column", CONFORMED, ids=lambda column: column.name)
@pytest.mark.parametrize("constraint", [None, "n < 2", "moment > day OR yes = true", "x <> 0.07 AND wide IS NOT NULL"])
def test_ordinals_are_those_of_the_conformed_rows(workspace: Workspace, column, constraint, monkeypatch) -> None:
    """By SQL as row by row, whatever lies outside."""
    others = [other for other in CONFORMED if other.name in ("n", "moment", "day", "yes", "x", "wide") and other != column]
    schema = Schema(columns=[column, *others], constraints=[constraint] if constraint else [])
    places = [CONFORMED.index(found) for found in schema.columns]
    fill(workspace, schema, [(str(i // 2), [row[place] for place in places]) for i, row in enumerate(some_rows(200))])
    monkeypatch.setattr("localsynth.store.private._UNITS", 30)
    with PrivateStore.open(workspace) as store:
        expected = [row for unit in store.conformed_units("train", schema) for row in unit]
        batches = list(store.conformed_ordinals("train", schema))
        assert len(batches) == 4 and len(expected) < 200
        attributes = Domain.of_schema(schema).attributes
        found = {a.name: np.concatenate([batch[a.name] for batch in batches]).tolist() for a in attributes}
        assert found == {
            a.name: [MISSING if row[a.name] is None else to_ordinal(a.column, row[a.name]) for row in expected]
            for a in attributes
        }
        without = schema.model_copy(update={"constraints": []})
        assert store.constrained_out(schema) == (sum(map(len, store.conformed_units("train", without))) - len(expected), 200)


def test_a_unit_in_two_places_is_refused(workspace: Workspace, monkeypatch) -> None:
    fill(workspace, ONE_TEXT, [(None, ["a"]), (None, ["b"])])
    with PrivateStore.open(workspace) as store:
        rows = store._rows
        scattered = [(0, "a"), (1, "b"), (0, "c")]
        monkeypatch.setattr(store, "_rows", lambda sql, values=(): iter(scattered) if "unit_id, c0" in sql else rows(sql, values))
        with pytest.raises(IntegrityError, match="together"):
            list(store.records("train", ONE_TEXT))
