"""A CSV for spreadsheets holds nothing that one would compute."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.errors import ConfigError
from localsynth.schema.columns import Integer, Schema, Text
from localsynth.store.synthetic import Origin, SyntheticStore

ORIGIN = Origin("run", "00", 0, 1.0, 1e-6, {}, {})
NAMES = ["=cmd()", "-5", "n", 'a "b"']


def store_of(path: Path, texts: list[str | None]) -> SyntheticStore:
    store = SyntheticStore(path)
    store.create_table(
        Schema(columns=[Text(name=NAMES[0]), Text(name=NAMES[1]), Integer(name="n", min=-9, max=9), Text(name=NAMES[3])])
    )
    job = store.open_job(ORIGIN, total=len(texts))
    store.append(job.number, job.first_row, [dict(zip(NAMES, [text, "x", -3, text], strict=True)) for text in texts])
    return store


def written(store: SyntheticStore, out: Path, for_spreadsheets: bool) -> list[list[str]]:
    store.export("csv", out, True, for_spreadsheets)
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-12.5", "-12.5"),
        ("+3,5", "+3,5"),
        ("plain", "plain"),
        ("a=1", "a=1"),
        ("", ""),
        (None, ""),
    ],
)
def test_formulas_get_an_apostrophe(tmp_path: Path, text: str | None, shown: str) -> None:
    store = store_of(tmp_path / "s.duckdb", [text])
    header, row = written(store, tmp_path / "out.csv", True)
    assert header == ["'=cmd()", "-5", "n", 'a "b"'] and row == [shown, "x", "-3", shown]
    header, row = written(store, tmp_path / "out.csv", False)
    assert header == NAMES and row == [text or "", "x", "-3", text or ""]


@settings(max_examples=4, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), min_size=40))
def test_no_exported_text_is_a_formula(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    place = tmp_path_factory.mktemp("csv")
    rows = written(store_of(place / "s.duckdb", texts), place / "out.csv", True)[1:]
    assert len(rows) == len(texts)
    for text, (cell, *_) in zip(texts, rows, strict=True):
        assert cell in (text, "'" + text)
        assert cell[:1] not in tuple("=@\t\r+-") or re.fullmatch(r"[+-]?[0-9]+([.,][0-9]+)?", cell)


def test_for_spreadsheets_needs_csv(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s.duckdb", ["=1"])
    with pytest.raises(ConfigError, match="needs the format CSV"):
        store.export("jsonl", tmp_path / "out", for_spreadsheets=True)
    assert not (tmp_path / "out").exists()
