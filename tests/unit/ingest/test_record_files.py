"""Workbooks, files of statistics programs and SQLite tables: the same texts as from CSV, and what the files say of columns."""

import datetime as dt
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, DataError, LocalsynthError, ResourceError
from localsynth.ingest.infer import infer_schema
from localsynth.ingest.sources import record_files
from localsynth.ingest.sources.base import Row, Source
from localsynth.ingest.sources.open import open_source
from localsynth.ingest.sources.record_files import as_text
from localsynth.schema.columns import Category
from localsynth.system import extras

FRAME = pd.DataFrame(
    {
        "sex": [1.0, 2.0, None],
        "weight": [70.5, 81.0, 60.25],
        "born": [dt.date(1980, 1, 2), dt.date(1999, 12, 31), None],
        "note": ["of no use", "äöü", ""],
        "seen": [dt.datetime(2024, 1, 1, 13, 4, 5)] * 3,
    }
)
ROWS = [
    ("1", "70.5", "1980-01-02", "of no use", "2024-01-01 13:04:05"),
    ("2", "81", "1999-12-31", "äöü", "2024-01-01 13:04:05"),
    (None, "60.25", None, "", "2024-01-01 13:04:05"),
]
LABELS: dict[str, Any] = {
    "variable_value_labels": {"sex": {1: "male", 2: "female"}},
    "column_labels": ["Sex of patient", "", "", "", ""],
}


def opened(path: Path, **options: Any) -> Source:
    return open_source(DataConfig(source=str(path), **options))


def rows_of(source: Source) -> list[Row]:
    return [row for batch in source.batches(2) for row in batch]


def statistics_file(path: Path) -> Path:
    if path.suffix == ".sav":
        pyreadstat.write_sav(FRAME, str(path), **LABELS)
    elif path.suffix == ".dta":
        pyreadstat.write_dta(FRAME, str(path), **LABELS)
    else:
        pyreadstat.write_xport(FRAME, str(path))
    return path


@pytest.mark.parametrize("name", ["t.sav", "t.dta", "t.xpt"])
def test_files_of_statistics_programs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "_CHUNK", 2)
    source = opened(statistics_file(tmp_path / name))
    assert source.columns == list(FRAME.columns) and rows_of(source) == ROWS
    source.select(["note", "sex"])
    assert rows_of(source) == [(row[3], row[0]) for row in ROWS]


def test_labels_become_descriptions(tmp_path: Path) -> None:
    schema, notes = infer_schema(opened(statistics_file(tmp_path / "t.sav")), [""])
    sex = schema.column("sex")
    assert isinstance(sex, Category) and sex.descriptions == {"1": "male", "2": "female"}
    assert "'sex' in the file: Sex of patient" in notes
    assert any(note.startswith("'sex': the descriptions") and "Remove what is not public" in note for note in notes)


def test_declared_missing_codes_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / "t.sav"
    pyreadstat.write_sav(pd.DataFrame({"age": [30.0, 999.0]}), str(path), missing_ranges={"age": [999]})
    assert rows_of(opened(path)) == [("30",), (None,)]


def test_labels_of_missing_codes_are_no_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "t.sav"
    frame = pd.DataFrame({"sex": [1.0, 2.0, 9.0, -1.0], "ward": ["a", "b", "zz", "a"]})
    labels = {"sex": {1: "male", 9: "refused", -1: "unknown"}, "ward": {"a": "A", "zz": "none"}}
    ranges = {"sex": [9, {"lo": -9, "hi": -1}], "ward": ["zz"]}
    pyreadstat.write_sav(frame, str(path), variable_value_labels=labels, missing_ranges=ranges)
    source = opened(path)
    assert source.descriptions == {"sex": {"1": "male"}, "ward": {"a": "A"}}
    assert rows_of(source)[2:] == [(None, None), (None, "a")] or rows_of(source)[2:] == [(None, ""), (None, "a")]


def workbook(path: Path, lines: list[list[Any]], merged: str = "") -> Path:
    """A workbook with one sheet, "visits", of strings and numbers."""

    def cell(value: Any, place: str) -> str:
        if isinstance(value, str):
            return f'<c r="{place}" t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c r="{place}"><v>{value}</v></c>'

    rows = "".join(
        f'<row r="{r}">' + "".join(cell(value, f"{chr(65 + c)}{r}") for c, value in enumerate(line) if value != "") + "</row>"
        for r, line in enumerate(lines, 1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    merges = f'<mergeCells count="1"><mergeCell ref="{merged}"/></mergeCells>' if merged else ""

    def related(kind: str, target: str) -> str:
        relation = f'<Relationship Id="r1" Type="{office}/{kind}" Target="{target}"/>'
        return f'<Relationships xmlns="{package}/relationships">{relation}</Relationships>'

    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="xml" ContentType="text/xml"/>'
        "</Types>",
        "_rels/.rels": related("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="visits" sheetId="1" r:id="r1"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": related("worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData>{merges}</worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0"?>{text}')
    return path


def test_a_sheet(tmp_path: Path) -> None:
    lines: list[list[Any]] = [["age", "ward"], [30, "A1"], ["", ""], [41.5, ""]]
    source = opened(workbook(tmp_path / "t.xlsx", lines), table="visits")
    assert source.columns == ["age", "ward"] and rows_of(source) == [("30", "A1"), ("41.5", "")]
    with pytest.raises(ConfigError, match="no sheet 'other'") as refused:
        opened(tmp_path / "t.xlsx", table="other")
    assert "visits" in refused.value.hint


def test_lines_above_a_sheets_header_are_skipped(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["Report of 2024"], ["age"], [30]], merged="A1:C1")
    with pytest.raises(DataError, match="merged in the line") as refused:
        opened(path)
    assert "skip_lines" in refused.value.hint
    assert rows_of(opened(path, skip_lines=1)) == [("30",)]
    with pytest.raises(DataError, match="is empty"):
        opened(path, skip_lines=3)


@pytest.mark.parametrize("name", ["t.sqlite", "t.db"])
def test_a_table_of_sqlite(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE visits (age INTEGER, weight REAL, note TEXT)")
        connection.executemany("INSERT INTO visits VALUES (?, ?, ?)", [(30, 70.5, "x"), (None, 81.0, None)])
    connection.close()
    before = path.read_bytes()
    assert rows_of(opened(path)) == [("30", "70.5", "x"), (None, "81", None)]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path], "it is only read"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE VIEW adults AS SELECT age FROM visits WHERE age > 18")
    connection.close()
    with pytest.raises(ConfigError, match="more than one table or view") as refused:
        opened(path)
    assert "adults, visits" in refused.value.hint
    assert rows_of(opened(path, table="adults")) == [("30",)]


def test_an_sqlite_database_with_a_log(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = wal")
    writer.execute("CREATE TABLE t (a INTEGER, b BLOB)")
    writer.execute("INSERT INTO t VALUES (1, x'00ff')")
    writer.commit()
    with pytest.raises(DataError, match="open in another program"):
        opened(path)
    writer.close()
    assert rows_of(opened(path, columns=["a"])) == [("1",)] and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="binary data"):
        rows_of(opened(path))


@pytest.mark.parametrize("name", ["t.xlsx", "t.ods", "t.sav", "t.dta", "t.sas7bdat", "t.xpt", "t.sqlite"])
def test_a_damaged_file_is_an_error_without_a_value(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((b"SQLite format 3\x00" if name == "t.sqlite" else b"") + b"planted" * 300)
    with pytest.raises(LocalsynthError, match="cannot be read") as refused:
        opened(path)
    assert "planted" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("name", ["t.xlsx", "t.sav"])
def test_a_missing_library_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ResourceError, match="not installed") as refused:
        opened(tmp_path / name)
    assert "localsynth[formats]" in refused.value.hint


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (-2.5, "-2.5"),
        (1e22, "1e+22"),
        (float("nan"), None),
        (True, "true"),
        (None, None),
        (dt.time(7, 5), "07:05:00"),
        (dt.timedelta(hours=26, minutes=1), "26:01:00"),
        (dt.timedelta(seconds=-90, milliseconds=250), "-00:01:29.75"),
        (dt.datetime(2024, 1, 2), "2024-01-02 00:00:00"),
    ],
)
def test_values_as_a_csv_file_would_hold_them(value: Any, text: str | None) -> None:
    assert as_text(value) == text
