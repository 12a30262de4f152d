import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from localsynth.config import Config, DataConfig, PrivacyConfig
from localsynth.errors import ConfigError, DataError
from localsynth.events import Event, for_the_record
from localsynth.ingest.load import LoadedTable, load_table, sort_key
from localsynth.schema.columns import (
    Boolean,
    Category,
    Date,
    Derived,
    Identifier,
    Integer,
    Number,
    Record,
    Schema,
    Surrogate,
    Text,
)
from localsynth.store.private import PrivateStore
from localsynth.workspace.paths import Workspace
from tests.helpers.seeded_random import InsecureRandom

SECRET = "SECRETvalue"
NUMBERS = Schema(columns=[Identifier(name="person"), Integer(name="n")])


def run(
    workspace: Workspace,
    path: Path,
    schema: Schema,
    seed: int = 1,
    keep: float = 1.0,
    data: dict[str, Any] | None = None,
    **privacy: Any,
) -> tuple[LoadedTable, list[Event]]:
    config = Config(data=DataConfig(source=str(path), **(data or {})), schema=schema, privacy=PrivacyConfig(**privacy))
    events: list[Event] = []
    return load_table(workspace, config, InsecureRandom(seed), lambda units: keep, events.append, "5eed"), events


def stored(workspace: Workspace, schema: Schema, split: str = "train") -> list[tuple[int, Record]]:
    with PrivateStore.open(workspace) as store:
        return list(store.records(split, schema))  # type: ignore[arg-type]


def people(tmp_path: Path, rows: list[tuple[str, int]]) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("person,n\n" + "".join(f"{person},{n}\n" for person, n in rows))
    return path


# --- what is stored ---------------------------------------------------------------------------------------------------

ODD = ['odd "name"; --', "select", "größe 📏", "c0", "is it", "when", "id", "who"]
TYPED = Schema(
    columns=[
        Text(name=ODD[0]),
        Category(name=ODD[1]),
        Number(name=ODD[2], decimals=1),
        Integer(name=ODD[3]),
        Boolean(name=ODD[4]),
        Date(name=ODD[5]),
        Identifier(name=ODD[6]),
        Surrogate(name=ODD[7], of="name"),
    ]
)


def test_five_formats_give_the_same_private_table(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        ('two\nlines, "q"', "a", 1.25, 3, True, "2020-02-29", 7, SECRET),
        (None, None, None, None, None, None, 8, "other"),
        ("émoji 🎈", "b c", -0.5, -12, False, "1999-12-31", 9, "third"),
    ]
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as out:
            csv.writer(out, delimiter=delimiter).writerows([ODD, *texts])
    with (tmp_path / "t.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(dict(zip(ODD, row, strict=True))) + "\n" for row in rows)
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        types = ["VARCHAR", "VARCHAR", "DOUBLE", "SMALLINT", "BOOLEAN", "DATE", "BIGINT", "VARCHAR"]
        columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {kind}' for name, kind in zip(ODD, types, strict=True))
        connection.execute(f"CREATE TABLE t ({columns})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * 8)})", rows)
        connection.execute(f"COPY t TO '{tmp_path / 't.parquet'}'")
    found = {}
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.duckdb", "t.parquet"):
        run(workspace, tmp_path / name, TYPED, holdout=0.0)
        found[name] = stored(workspace, TYPED)
    assert found["t.csv"][0][1][ODD[0]] == 'two\nlines, "q"'
    assert found["t.csv"][1][1] == dict.fromkeys(ODD[:6])
    assert [record[ODD[2]] for _, record in found["t.csv"]] == [1.2, None, -0.5]
    for name, table in found.items():
        assert table == found["t.csv"], name


def test_values_are_stored_unclamped_without_bounds(workspace: Workspace, tmp_path: Path) -> None:
    schema = Schema(columns=[Identifier(name="person"), Integer(name="n", min=0, max=10)])
    run(workspace, people(tmp_path, [("a", 99)]), schema, holdout=0.0)
    assert stored(workspace, schema) == [(0, {"n": 99})]


def test_no_original_value_is_readable_in_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("person,note\n" + "".join(f"{SECRET}person{n},{SECRET}note{n}\n" for n in range(3000)))
    schema = Schema(columns=[Identifier(name="person"), Text(name="note")])
    _, events = run(workspace, path, schema, unit="person")
    for file in workspace.root.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in json.dumps(events)
    assert len(stored(workspace, schema)) + len(stored(workspace, schema, "holdout")) == 3000


def test_values_that_differ_from_a_formula_are_counted_privately(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("net,tax,gross\n0.1,0.2,0.3\n1,2,3.00\n1,2,4\n1,,-9\n1,2,much\n")
    gross = Derived(name="gross", formula="net + tax", decimals=2, missing=["-9"])
    columns = [Number(name="net"), Number(name="tax"), gross]
    _, events = run(workspace, path, Schema(columns=columns))
    (told,) = [event for event in events if "formula" in str(event)]
    assert "'gross': in 2 of 5 rows its formula gives another value." in str(told)
    assert "formula" not in json.dumps(for_the_record(told))


def test_a_derived_column_may_be_absent_from_the_source(workspace: Workspace, tmp_path: Path) -> None:
    schema = Schema(columns=[*NUMBERS.columns, Derived(name="twice", formula="2 * n")])
    run(workspace, people(tmp_path, [("a", 3)]), schema, holdout=0.0)
    assert stored(workspace, schema) == [(0, {"n": 3})]


def test_size_of_the_table_stays_private(workspace: Workspace, tmp_path: Path) -> None:
    _, events = run(workspace, people(tmp_path, [("a", n) for n in range(4321)]), NUMBERS)
    progress = [event for event in events if event["kind"] == "progress"]
    assert progress and progress[0]["private"]["rows"] > 0
    assert all(for_the_record(event) == {"kind": "progress", "stage": "ingest"} for event in progress)


def test_the_store_knows_its_source(workspace: Workspace, tmp_path: Path) -> None:
    path = people(tmp_path, [("a", 1)])
    run(workspace, path, NUMBERS, unit="person", max_rows_per_unit=3)
    with PrivateStore.open(workspace) as store:
        info = store.info()
    assert info["unit"] == "person" and info["max_rows_per_unit"] == "3" and len(info["source_sha256"]) == 64
    assert info["ingest"] == "5eed"


# --- units and coins --------------------------------------------------------------------------------------------------


def within(count: int, n: int, p: float) -> bool:
    """Whether `count` is within six standard deviations of a binomial's mean."""
    return abs(count - n * p) < 6 * math.sqrt(n * p * (1 - p))


def test_units_are_sampled_independently(workspace: Workspace, tmp_path: Path) -> None:
    rows = [(f"p{i % 4000}", i) for i in range(8000)]
    result, _ = run(workspace, people(tmp_path, rows), NUMBERS, keep=0.3, unit="person", max_rows_per_unit=5, holdout=0.25)
    train, holdout = (stored(workspace, NUMBERS, split) for split in ("train", "holdout"))
    units = {split: {unit for unit, _ in found} for split, found in (("train", train), ("holdout", holdout))}
    assert not units["train"] & units["holdout"]
    assert result == LoadedTable(rows=len(train) + len(holdout), units=len(units["train"] | units["holdout"]))
    assert within(result.units, 4000, 0.3)
    assert within(len(units["holdout"]), result.units, 0.25)
    # A unit is in or out with all its rows, and its rows are those of one person.
    assert result.rows == 2 * result.units
    by_unit: dict[int, set[int]] = {}
    for unit, record in train:
        by_unit.setdefault(unit, set()).add(int(record["n"]) % 4000)  # type: ignore[arg-type]
    assert all(len(persons) == 1 for persons in by_unit.values())


def test_kept_units_are_random_and_independent_of_position(workspace: Workspace, tmp_path: Path) -> None:
    path = people(tmp_path, [(f"p{i}", i) for i in range(2000)])
    kept = []
    for seed in (1, 2):
        run(workspace, path, NUMBERS, seed=seed, keep=0.5, holdout=0.0)
        kept.append({int(record["n"]) for _, record in stored(workspace, NUMBERS)})  # type: ignore[arg-type]
    assert within(len(kept[0] & kept[1]), 2000, 0.25)
    assert within(sum(n < 1000 for n in kept[0]), 1000, 0.5)


def test_keep_probability_one_and_zero(workspace: Workspace, tmp_path: Path) -> None:
    path = people(tmp_path, [(f"p{i}", i) for i in range(50)])
    assert run(workspace, path, NUMBERS, keep=1.0, holdout=0.0)[0] == LoadedTable(50, 50)
    assert [record["n"] for _, record in stored(workspace, NUMBERS)] == list(range(50))
    assert run(workspace, path, NUMBERS, keep=0.0)[0] == LoadedTable(0, 0)


def test_keep_probability_may_depend_on_the_unit_count(workspace: Workspace, tmp_path: Path) -> None:
    asked: list[int] = []

    def keep_all(units: int) -> float:
        asked.append(units)
        return 1.0

    path = people(tmp_path, [("a", 1), ("b", 2), ("a", 3), ("", 4)])
    config = Config(data=DataConfig(source=str(path)), schema=NUMBERS, privacy=PrivacyConfig(unit="person"))
    assert load_table(workspace, config, InsecureRandom(1), keep_all, lambda event: None, "5eed").units == 3
    assert asked == [3]


def test_excess_rows_are_dropped_at_random(workspace: Workspace, tmp_path: Path) -> None:
    """Of four rows a person two stay; each place and each pair is as likely as any other."""
    rows = [(f"p{i % 3000}", i // 3000) for i in range(12_000)]
    result, events = run(workspace, people(tmp_path, rows), NUMBERS, unit="person", max_rows_per_unit=2, holdout=0.0)
    assert result == LoadedTable(6000, 3000)
    assert "6,000 of 12,000 rows are used: at most 2 of each unit." in str(events)
    assert "6,000" not in json.dumps([for_the_record(event) for event in events])
    places: dict[int, list[int]] = {}
    for unit, record in stored(workspace, NUMBERS):
        places.setdefault(unit, []).append(int(record["n"]))  # type: ignore[arg-type]
    pairs = Counter(tuple(sorted(found)) for found in places.values())
    assert len(pairs) == 6
    assert all(within(count, 3000, 1 / 6) for count in pairs.values())


VISITS = Schema(columns=[Identifier(name="person"), Identifier(name="visit", missing=["none"]), Integer(name="n")])


def visits(tmp_path: Path, rows: list[tuple[str, str, int | str]]) -> Path:
    path = tmp_path / "visits.csv"
    path.write_text("person,visit,n\n" + "".join(f"{person},{visit},{n}\n" for person, visit, n in rows))
    return path


def sequences(workspace: Workspace) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for unit, record in stored(workspace, VISITS):
        found.setdefault(unit, []).append(record["n"])
    return found


@pytest.mark.parametrize("by", ["visit", "n"])
def test_sequence_rows_are_ordered_and_unordered_ones_dropped(workspace: Workspace, tmp_path: Path, by: str) -> None:
    """By the numbers in an identifier; of equal ones the first in the source comes first."""
    missing: list[tuple[str, str, int | str]] = [("a", "", 99), ("a", "none", 98)] if by == "visit" else [("a", "v5", "")]
    rows = [("a", "v10", 10), ("b", "v3", 3), ("a", "v9", 9), *missing, ("a", "v009", 9), ("b", "v1", 1), ("a", "v2x", 2)]
    result, _ = run(
        workspace, visits(tmp_path, rows), VISITS, unit="person", max_rows_per_unit=9, holdout=0.0, data={"sequence_by": by}
    )
    assert result == LoadedTable(6, 2)
    assert sequences(workspace) == {0: [2, 9, 9, 10], 1: [1, 3]}
    with PrivateStore.open(workspace) as store:
        assert [record["n"] for _, record in store.records("train", VISITS, unit_ids=[0])] == [2, 9, 9, 10]


def test_long_sequence_keeps_consecutive_rows_at_random(workspace: Workspace, tmp_path: Path) -> None:
    rows: list[tuple[str, str, int | str]] = [(f"p{i % 3000}", "", 4 - i // 3000) for i in range(15_000)]
    result, _ = run(
        workspace, visits(tmp_path, rows), VISITS, unit="person", max_rows_per_unit=2, holdout=0.0, data={"sequence_by": "n"}
    )
    assert result == LoadedTable(6000, 3000)
    windows = Counter(tuple(found) for found in sequences(workspace).values())
    assert set(windows) == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert all(within(count, 3000, 1 / 4) for count in windows.values())


def test_sort_key_depends_on_one_value_only() -> None:
    ordered = ["", "7", "007a", "40", "2024-01-31", "2024-02-01", "v", "v9", "v10", "v10b"]
    assert sorted(ordered, key=sort_key) == ordered


def test_units_below_the_limit_keep_all_rows(workspace: Workspace, tmp_path: Path) -> None:
    rows = [("a", 1), ("b", 2), ("a", 3)]
    assert run(workspace, people(tmp_path, rows), NUMBERS, unit="person", max_rows_per_unit=2, holdout=0.0)[0] == LoadedTable(
        3, 2
    )


@pytest.mark.parametrize(("missing", "units"), [(None, 7), (["UNKNOWN"], 6), ([], 5)])
def test_rows_without_a_unit_are_units_of_their_own(
    workspace: Workspace, tmp_path: Path, missing: list[str] | None, units: int
) -> None:
    """Its column says itself what means "no value", where it says anything."""
    rows = [("a", 1), ("", 2), ("?", 3), ("?", 3), ("?", 3), ("UNKNOWN", 6), ("UNKNOWN", 7), (" a ", 4), (" ", 5)]
    schema = Schema(columns=[Identifier(name="person", missing=missing), Integer(name="n")])
    result, events = run(
        workspace, people(tmp_path, rows), schema, unit="person", holdout=0.0, max_rows_per_unit=9, data={"missing": ["?"]}
    )
    assert result == LoadedTable(9, units)
    (event,) = [event for event in events if event["kind"] == "note"]
    assert set(event) == {"kind", "private"}, "that there are such rows is known from the rows alone"
    note = event["private"]["text"]
    assert "'person'" in note
    assert not any(character.isdigit() for character in note)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("person\na\n", "lacks columns of the schema: 'n'"),
        ("person,n,more,still\na,1,2,3\n", "columns that the schema does not have: 'more', 'still'"),
        ("person,N\na,1\n", "lacks columns of the schema: 'n'"),
        (f"person,n\na,1\nb,2\nc,{SECRET}\n", "row 3, column 'n': not a whole number"),
        (f"person,n\na,1\nb,2\n{SECRET}\n", "line 4: 1 fields"),
    ],
)
def test_failed_load_leaves_nothing_behind(workspace: Workspace, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        run(workspace, path, NUMBERS)
    assert message in caught.value.message and str(path) in caught.value.message
    assert caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None
    assert {file.name for file in workspace.root.iterdir()} <= {"workspace.json", ".private.lock"}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ([3, 5], "2 keys that the schema does not have, the first in line 4"),
        ([0], "1 key that the schema does not have, the first in line 1"),
    ],
)
def test_unknown_json_keys_are_not_named(workspace: Workspace, tmp_path: Path, odd: list[int], message: str) -> None:
    """In JSON lines a name stands in each row, and may be somebody's."""
    path = tmp_path / "t.jsonl"
    records = [{"person": f"p{i}", "n": i} | ({f"{SECRET}{i}": 1} if i in odd else {}) for i in range(8)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(DataError) as caught:
        run(workspace, path, NUMBERS)
    assert message in caught.value.message and "data.columns" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint
    run(workspace, path, NUMBERS, data={"columns": ["person", "n"]})


def test_an_unknown_unit_column(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"privacy.unit: there is no column 'patient'"):
        run(workspace, people(tmp_path, [("a", 1)]), NUMBERS, unit="patient")


def test_a_failed_ingest_keeps_the_earlier_one(workspace: Workspace, tmp_path: Path) -> None:
    run(workspace, people(tmp_path, [("a", 1)]), NUMBERS, holdout=0.0)
    broken = tmp_path / "broken.csv"
    broken.write_text("person,n\na,x\n")
    with pytest.raises(DataError):
        run(workspace, broken, NUMBERS)
    assert stored(workspace, NUMBERS) == [(0, {"n": 1})]
