"""Arrow, Excel, SPSS, Stata and DuckDB files of the synthetic rows: read back as the same rows, with types and labels."""

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pytest

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, IntegrityError, LocalsynthError, ResourceError
from localsynth.ingest.sources.open import open_source
from localsynth.schema.columns import Boolean, Category, Date, DateTime, Integer, Number, Record, Schema, Text, Time
from localsynth.store import typed_files
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.store.table_file import canonical_row, hash_table, read_rows
from localsynth.store.typed_files import variable_names
from localsynth.system import extras

SCHEMA = Schema(
    columns=[
        Integer(name="age in years", min=0, max=120),
        Integer(name="big", min=0, max=10**18),
        Number(name="price", min=-9999, max=9999, decimals=2, format="1.234,5 €"),
        Boolean(name="smoker", format="Y/N"),
        Category(name="sex", values=["1", "2"], descriptions={"1": "male", "2": "female"}),
        Category(name="ward", values=["001", "B"], descriptions={"B": "ä" * 90}),
        Date(name="born", min=dt.date(1850, 1, 1), max=dt.date(2030, 1, 1), format="%d.%m.%Y"),
        DateTime(name="at", min=dt.datetime(2000, 1, 1), max=dt.datetime(2030, 1, 1)),
        Time(name="time"),
        Text(name="note"),
    ]
)
MIDNIGHT, EVENING = dt.datetime(2021, 8, 17), dt.datetime(1970, 1, 1, 18, 0, 1)
VALUES: list[list[Any]] = [
    [30, 123456789012345678, -1234.5, True, "1", "001", dt.date(1850, 1, 2), MIDNIGHT, EVENING, "=1+1"],
    [
        31,
        0,
        0.1,
        False,
        "2",
        "B",
        dt.date(2021, 8, 17),
        MIDNIGHT.replace(hour=5),
        EVENING.replace(hour=0, second=0),
        " é\r\n\x01",
    ],
    [None] * len(SCHEMA.columns),
]
ROWS: list[Record] = [dict(zip([c.name for c in SCHEMA.columns], row, strict=True)) for row in VALUES]
MODULES = {"arrow": "pyarrow", "excel": "xlsxwriter", "spss": "pyreadstat", "stata": "pyreadstat"}


def stored(path: Path, rows: list[Record], schema: Schema = SCHEMA) -> SyntheticStore:
    store = SyntheticStore(path / "synthetic.duckdb")
    store.create_table(schema)
    job = store.open_job(Origin("run", "00", 0, 1.0, 1e-6, {}, {}), total=len(rows))
    store.append(job.number, job.first_row, rows)
    return store


def exported(path: Path, kind: Any, rows: list[Record] = ROWS) -> Path:
    if kind in MODULES:
        pytest.importorskip(MODULES[kind], reason="needs the extra formats")
    out = path / "t.out"
    assert stored(path, rows).export(kind, out) == len(rows)
    return out


@pytest.mark.parametrize("kind", typed_files.WRITERS)
def test_rows_are_read_back_as_the_same(tmp_path: Path, kind: str) -> None:
    out = exported(tmp_path, kind)
    rows = [canonical_row([dt.datetime.time(v) if v in (EVENING, VALUES[1][8]) else v for v in row], SCHEMA) for row in VALUES]
    assert list(read_rows(out, SCHEMA)) == rows
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["synthetic.duckdb", "t.out"]


@pytest.mark.parametrize("kind", typed_files.WRITERS)
def test_the_hash_of_the_rows_is_that_of_a_parquet_file(tmp_path: Path, kind: str) -> None:
    out = exported(tmp_path, kind, ROWS[:2])
    SyntheticStore(tmp_path / "synthetic.duckdb").export("parquet", tmp_path / "t.parquet")
    assert hash_table(out, SCHEMA) == hash_table(tmp_path / "t.parquet", SCHEMA)


@pytest.mark.parametrize("kind", typed_files.WRITERS)
def test_a_table_without_rows(tmp_path: Path, kind: str) -> None:
    assert list(read_rows(exported(tmp_path, kind, []), SCHEMA)) == []


@pytest.mark.parametrize(("kind", "suffix"), [("spss", "sav"), ("stata", "dta")])
def test_labels_of_variables_and_values(tmp_path: Path, kind: str, suffix: str) -> None:
    out = exported(tmp_path, kind).rename(tmp_path / f"t.{suffix}")
    source = open_source(DataConfig(source=str(out)))
    assert source.labels["age_in_years"] == "age in years" and source.columns[0] == "age_in_years"
    assert source.descriptions["sex"] == {"1": "male", "2": "female"}
    assert source.descriptions["smoker"] == {"0": "N", "1": "Y"}
    assert source.descriptions.get("ward") == ({"B": "ä" * 60} if kind == "spss" else None)
    assert next(source.batches())[0][:5] == ("30", "123456789012345678", "-1234.5", "1", "1")


def test_a_sheet_has_types_and_no_formulas(tmp_path: Path) -> None:
    calamine = pytest.importorskip("python_calamine")
    sheet = calamine.CalamineWorkbook.from_path(exported(tmp_path, "excel")).get_sheet_by_name("synthetic")
    first = sheet.to_python(skip_empty_area=False)[1]
    assert first[0] == 30.0 and first[3] is True and first[6] == "1850-01-02" and first[-1] == "=1+1"


def test_a_duckdb_file_holds_a_plain_table(tmp_path: Path) -> None:
    with duckdb.connect(str(exported(tmp_path, "duckdb")), read_only=True) as connection:
        assert connection.execute("SELECT price, smoker FROM synthetic LIMIT 1").fetchone()[1] is True
        assert connection.execute("SELECT column_type FROM (DESCRIBE synthetic)").fetchall()[6:9] == [
            ("DATE",),
            ("TIMESTAMP",),
            ("TIME",),
        ]


def test_what_a_sheet_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xlsxwriter", reason="needs the extra formats")
    store = stored(tmp_path, [*ROWS, {**ROWS[0], "note": "x" * 33_000}])
    with pytest.raises(ConfigError, match="32,767 characters"):
        store.export("excel", tmp_path / "t.xlsx")
    monkeypatch.setattr(typed_files, "_EXCEL_ROWS", 3)
    with pytest.raises(ConfigError, match="at most 2 rows"):
        store.export("excel", tmp_path / "t.xlsx")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["synthetic.duckdb"]


@pytest.mark.parametrize("kind", MODULES)
def test_a_missing_library_is_named_before_anything_is_written(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ResourceError, match=f"needs {MODULES[kind]}"):
        stored(tmp_path, ROWS).export(kind, tmp_path / "t.out")


@pytest.mark.parametrize("start", [b"ARROW1", b"PK\x03\x04", b"$FL2", b"<stata_dta>", b"x" * 8 + b"DUCK", b"PAR1"])
def test_a_damaged_file_is_an_error_without_a_value(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "t").write_bytes(start + b"planted" * 2000)
    with pytest.raises(LocalsynthError) as caught:
        list(read_rows(tmp_path / "t", SCHEMA))
    assert isinstance(caught.value, IntegrityError | ResourceError) and "planted" not in str(caught.value)


def test_a_view_of_a_strangers_duckdb_file_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("note\nplanted\n")
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(f"CREATE VIEW synthetic AS SELECT * FROM read_csv('{tmp_path / 'other.csv'}')")
    with pytest.raises(IntegrityError, match="cannot be read"):
        list(read_rows(tmp_path / "t.duckdb", Schema(columns=[Text(name="note")])))


def test_names_of_variables_are_allowed_and_differ() -> None:
    columns = ["age", "Age in years", "1st", "_x", "größe", "by", "str12", "a" * 40, "a" * 41, "漢" * 40, "a-b", "a_b", "€"]
    names = variable_names(columns)
    assert names[:7] == ["age", "Age_in_years", "v_1st", "v__x", "größe", "v_by", "v_str12"]
    assert names[7:9] == ["a" * 32, "a" * 30 + "_2"] and names[10:] == ["a_b", "a_b_2", "v__"]
    assert len({name.casefold() for name in names}) == len(columns)
    assert all(len(name) <= 32 and len(name.encode()) <= 64 for name in names)
