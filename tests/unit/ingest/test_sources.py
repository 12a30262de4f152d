import csv
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.config import DataConfig
from localsynth.errors import ConfigError, DataError, LocalsynthError, ResourceError
from localsynth.ingest.sources.base import Row
from localsynth.ingest.sources.open import open_source

SECRET = "SECRETvalue"


def rows_of(path: Path, **options: str | bool | list[str]) -> tuple[list[str], list[Row]]:
    source = open_source(DataConfig.model_validate({"source": str(path), **options}))
    return source.columns, [row for batch in source.batches(2) for row in batch]


def refused(path: Path, kind: type[LocalsynthError] = DataError, **options: str | bool | list[str]) -> str:
    with pytest.raises(kind) as caught:
        rows_of(path, **options)
    error = caught.value
    assert SECRET not in error.message + error.hint
    assert error.hint
    assert str(path) in error.message or "data.encoding" in error.message
    # Nor may a value hang on the error as the one it came from.
    assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
    return error.message


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- delimited text ---------------------------------------------------------------------------------------------------


def test_csv_quoting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,"y ""z"", w"\n1,"two\nlines"\r\n"a,b",\n\n" ","it\'s ""q"""\n')
    assert rows_of(path) == (["x", 'y "z", w'], [("1", "two\nlines"), ("a,b", ""), (" ", 'it\'s "q"')])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))] * 2), min_size=1))
def test_any_written_csv_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("first", "second"), *rows])
    assert rows_of(path) == (["first", "second"], rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_taken_from_the_header(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path / "a.csv", delimiter.join(["x", '"a,;,;,;b"', "y"]) + "\n" + delimiter.join(["1", "2,5", "3"]) + "\n")
    if delimiter == ",":
        path.write_text('x,"a;b",y\n1,"2,5",3\n')
    assert rows_of(path)[1] == [("1", "2,5", "3")]


def test_tsv_and_a_single_column(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.tsv", "x,y\tz\n1,2\t3\n")) == (["x,y", "z"], [("1,2", "3")])
    assert rows_of(write(tmp_path / "a.csv", "note\nhello there\n")) == (["note"], [("hello there",)])


def test_gzip_by_content_whatever_the_name(tmp_path: Path) -> None:
    packed = gzip.compress(b"x,y\n1,2\n")
    assert (
        rows_of(write(tmp_path / "a.csv.gz", packed)) == rows_of(write(tmp_path / "b.csv", packed)) == (["x", "y"], [("1", "2")])
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", "größe,y\nÄrger,2\n".encode(encoding))
    assert rows_of(path, encoding="utf-8" if encoding == "utf-8-sig" else encoding) == (["größe", "y"], [("Ärger", "2")])


def test_an_empty_name_gets_its_number(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.csv", ",Clothing ID, ,Age\n0,767,x,33\n"))[0] == [
        "column_1",
        "Clothing ID",
        "column_3",
        "Age",
    ]


def test_odd_names_are_kept(tmp_path: Path) -> None:
    names = ['a "b"', "select", "größe 📏", "two words", "; drop table", "x'y", "c0"]
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([names, ["1"] * len(names)])
    assert rows_of(path)[0] == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "has no columns"),
        ("x,y\n", "header but no rows"),
        (f"x,X\n{SECRET},1\n", "columns 1 and 2 have the same name"),
        (f"column_2,\n{SECRET},1\n", "columns 1 and 2 have the same name"),
        (f'x,"a\nb"\n{SECRET},1\n', "the name of column 2 holds a line break"),
        (f"x,{'n' * 300}\n{SECRET},1\n", "the name of column 2 is longer"),
        (f"1,2.5\n{SECRET},1\n", "looks like a row of data"),
        (f"x,y\n1,2\n{SECRET}\n", "line 3: 1 fields where the first line has 2"),
        (f'x,y\n"1\n1",2\n{SECRET},2,3\n', "line 4: 3 fields where the first line has 2"),
        (f'x,y\n1,2\n3,"{SECRET}\n5,6\n', "line 3: unexpected end of data"),
        (f'x,y\n1,2\n3,"{SECRET}"z\n5,6\n', "line 3: ',' expected after '\"'"),
        (f"x,y\n1,2\n3,{SECRET}".encode() + b"\xff\n5,6\n", "line 3, byte 22 of the file: not utf-8 text"),
        (b"x,y\n" + b"1,2\n" * 50_000 + SECRET.encode() + b"\xe4,2\n", "line 50002, byte 200016 of the file"),
        (b"x,y\n1,2\n3,\xc3", "line 3: the file ends inside a character"),
        ("x,y\n1,2\n".encode("utf-16"), "line 1, byte 1 of the file"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard"),
        (gzip.compress(f"x,y\n{SECRET},2\n".encode() * 1000, mtime=0)[:-20], "damaged or cut-off gzip"),
        (gzip.compress(b"x,y\n1,2\n", mtime=0)[:12] + b"\xff" * 20, "damaged or cut-off gzip"),
    ],
)
def test_invalid_csv_is_refused_by_line_without_values(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in refused(write(tmp_path / "a.csv", content))


def test_unclosed_quote_does_not_exhaust_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'x,y\n1,"' + "z,\n" * 6_000_000)
    assert "line 2: field larger than field limit" in refused(path)


def test_invalid_paths_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "absent.csv")
    assert "is a directory" in refused(tmp_path)
    assert "not compressed" in refused(write(tmp_path / "a.csv.gz", "x,y\n1,2\n"))
    unreadable = write(tmp_path / "u.csv", "x\n1\n")
    assert refused(unreadable, ConfigError, table="t").endswith("holds one table.")


def test_unknown_formats_and_encodings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", "x,y\n1,2\n")
    assert "Cannot tell the format" in refused(path, ConfigError)
    assert rows_of(path, format="csv")[1] == [("1", "2")]
    for encoding in ("klingon", "hex", "rot13"):
        assert "not a known text encoding" in refused(path, ConfigError, format="csv", encoding=encoding)


def test_a_source_can_be_read_again_and_hashes_its_file(tmp_path: Path) -> None:
    source = open_source(DataConfig(source=str(write(tmp_path / "a.csv", "x\n1\n2\n3\n"))))
    assert list(source.batches(2)) == list(source.batches(2)) == [[("1",), ("2",)], [("3",)]]
    assert source.sha256() == hashlib.sha256(b"x\n1\n2\n3\n").hexdigest()


# --- JSON lines -------------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"a": 1.50, "b": true}',
        "",
        '{"c": "x\\ny", "a": null, "b": false}',
        '{"a": 12345678901234567890, "b": null, "c": "\\ud800!"}',
    ]
    assert rows_of(write(tmp_path / "a.jsonl", "\n".join(lines))) == (
        ["a", "b", "c"],
        [("1.50", "true", None), (None, "false", "x\ny"), ("12345678901234567890", None, "\ufffd!")],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'{{"a": 1}}\n{{"a": "{SECRET}\n', "line 2: not valid JSON"),
        (f'{{"a": 1}}\n\n["{SECRET}"]\n', "line 3: not a JSON object"),
        (f'{{"a": 1, "b": 2}}\n{{"a": 3, "b": {{"x": "{SECRET}"}}}}\n', "line 2, key 2: a list or an object"),
        (f'{{"{SECRET}": ["x"]}}\n', "line 1, key 1: a list or an object"),
        ("".join(f'{{"{SECRET}{i}": 1}}\n' for i in range(1001)), "line 1001: more than 1,000 different keys"),
        ('{"a": 1, "A": 2}\n', "columns 1 and 2 have the same name"),
        ("{}\n", "has no columns"),
        ("[" * 100_000, "line 1: not valid JSON"),
    ],
)
def test_bad_json_lines(tmp_path: Path, content: str, message: str) -> None:
    assert message in refused(write(tmp_path / "a.jsonl", content))


def test_more_than_a_thousand_keys_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "".join(f'{{"k{i}": 1}}\n' for i in range(1000)))
    assert len(rows_of(path)[0]) == 1000


def test_keys_of_few_records_are_known(tmp_path: Path) -> None:
    def rare(records: int, having: int, columns: list[str] | None = None) -> tuple[str, ...]:
        lines = (json.dumps({"a": 1, "": 2} | ({"odd": 3} if i < having else {})) + "\n" for i in range(records))
        path = write(tmp_path / "a.jsonl", "".join(lines))
        return open_source(DataConfig(source=str(path), columns=columns)).rare

    assert rare(1000, 9) == ("odd",)
    assert rare(1000, 10) == ()
    assert rare(1000, 9, columns=["odd", "a"]) == (), "they were chosen"
    assert rare(20_000, 199) == ("odd",)
    # After the first 20,000 records nothing is counted, however many there are.
    late = "".join(json.dumps({"a": 1} | ({"late": 1} if i >= 20_000 else {})) + "\n" for i in range(21_000))
    assert open_source(DataConfig(source=str(write(tmp_path / "a.jsonl", late)))).rare == ("late",)


# --- typed sources ----------------------------------------------------------------------------------------------------

TYPED = """
SELECT 1 AS i, 1.50::DECIMAL(9,2) AS d, 0.1::FLOAT AS f, true AS b, DATE '2020-02-29' AS day,
       TIMESTAMPTZ '2020-01-01 10:00:00+02' AS moment, 'x' AS "odd ""name"" x"
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""
TYPED_ROWS = (
    ["i", "d", "f", "b", "day", "moment", 'odd "name" x'],
    [("1", "1.50", "0.1", "true", "2020-02-29", "2020-01-01 08:00:00+00", "x"), (None,) * 7],
)


def test_parquet(tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY ({TYPED}) TO '{tmp_path / 'a.parquet'}'")
    assert rows_of(tmp_path / "a.parquet") == TYPED_ROWS


def test_a_table_of_a_duckdb_file(tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f'CREATE TABLE "my table" AS {TYPED}')
    assert rows_of(path) == rows_of(path, table="my table") == TYPED_ROWS
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 5 AS n")
    assert "several tables" in refused(path, ConfigError)
    assert rows_of(path, table="s.t") == (["n"], [("5",)])
    assert "has no table or view 'x'" in refused(path, ConfigError, table="x")


def test_bad_typed_sources(tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (SELECT ['{SECRET}'] AS l, 1 AS i) TO '{tmp_path / 'nested.parquet'}'")
        connection.execute(f"COPY (SELECT 1 AS i WHERE false) TO '{tmp_path / 'none.parquet'}'")
    assert "column 'l' holds lists" in refused(tmp_path / "nested.parquet")
    assert "no rows" in refused(tmp_path / "none.parquet")
    assert "cannot be read" in refused(write(tmp_path / "a.parquet", f"{SECRET},1\n"))
    assert "cannot be read" in refused(write(tmp_path / "a.duckdb", f"{SECRET},1\n" * 1000))
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    assert "no tables" in refused(tmp_path / "empty.duckdb")


def test_five_formats_of_the_same_table(tmp_path: Path) -> None:
    table = [("1", "x,y", "2020-01-02"), ("2", 'é "q"', "2021-12-31")]
    records = [{"n": int(n), "t": t, "d": d} for n, t, d in table]
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as out:
            csv.writer(out, delimiter=delimiter).writerows([("n", "t", "d"), *table])
    write(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    typed = f"SELECT n::INTEGER AS n, t, d::DATE AS d FROM read_csv('{tmp_path / 'a.csv'}', all_varchar = true)"
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute(f"CREATE TABLE t AS {typed}")
        connection.execute(f"COPY t TO '{tmp_path / 'a.parquet'}'")
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.duckdb"):
        assert rows_of(tmp_path / name) == (["n", "t", "d"], table), name


HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("create table t (i int)")
print("open", flush=True)
time.sleep(60)
"""


def test_a_duckdb_file_in_use_is_a_resource_error(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "open in another program" in refused(path, ResourceError)
        other.kill()


def test_selected_columns_in_the_requested_order(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b,c\n1,x,3\n4,y,6\n")
    assert rows_of(path, columns=["c", "a"]) == (["c", "a"], [("3", "1"), ("6", "4")])
    assert "'d'" in refused(path, ConfigError, columns=["a", "d"])
    assert "same name" in refused(path, columns=["a", "a"])


# --- files as they come -----------------------------------------------------------------------------------------------


def test_a_spreadsheet_names_its_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "sep=;\r\na;b,c\r\n1;2,3\r\n")
    assert rows_of(path) == (["a", "b,c"], [("1", "2,3")])
    assert rows_of(write(tmp_path / "b.csv", '"sep=|"\na|b\n1|2,3\n'))[1] == [("1", "2,3")]


def test_comments_and_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'exported today\n\n# note\na,b\n1,"x\n# no comment"\n# one\n2,y\n')
    assert rows_of(path, comment="#", skip_lines=2) == (["a", "b"], [("1", "x\n# no comment"), ("2", "y")])
    path = write(tmp_path / "b.csv", f"# note\na,b\n# note\n1,{SECRET},3\n")
    assert ", line 4: 3 fields" in refused(path, comment="#")
    assert "data.comment is set" in refused(write(tmp_path / "a.jsonl", '{"a": "1"}\n'), ConfigError, comment="#")


def test_quotes_can_be_characters_as_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'size,n\n5" pipe,1\n"6"" pipe" or so,2\n')
    assert "line 3: ',' expected after" in refused(path)
    assert rows_of(path, quote="")[1] == [('5" pipe', "1"), ('"6"" pipe" or so', "2")]
    assert rows_of(write(tmp_path / "b.csv", "a,b\n'x,y',1\n"), quote="'")[1] == [("x,y", "1")]


def test_a_delimiter_at_the_end_of_lines_is_no_column(tmp_path: Path) -> None:
    for header in ("a;b;", "a;b"):
        path = write(tmp_path / "a.csv", f"{header}\n1;2;\n3;4;\n")
        assert rows_of(path) == (["a", "b"], [("1", "2"), ("3", "4")])
    assert rows_of(write(tmp_path / "b.csv", "a;b;\n1;2;3\n")) == (["a", "b", "column_3"], [("1", "2", "3")])


def test_a_name_on_two_lines_is_one_where_the_user_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '"dose\r\n(mg)",n\n5,1\n')
    with pytest.raises(DataError, match="line break") as caught:
        rows_of(path)
    assert "init --header" in caught.value.hint
    assert rows_of(path, header=True) == (["dose (mg)", "n"], [("5", "1")])


def _with_stray_quote(tmp_path: Path, added: str) -> Path:
    """Three hundred rows, one with an inch sign at its end, and another one before it."""
    rows = [f"{i},city{i % 7},note {i}" for i in range(300)]
    rows[200] = '200,city0,pipe of 5"'
    return write(tmp_path / "stray.csv", "\n".join(["n,city,note", *rows[:50], added, *rows[50:]]) + "\n")


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
@pytest.mark.parametrize("added", ['9999,city1,"unclosed', '9999,"city1'])
def test_a_stray_quote_never_removes_the_rows_that_follow(tmp_path: Path, added: str, bad_rows: str) -> None:
    """One row must not decide which others are read: the file is refused, also where bad rows are to be left out."""
    with pytest.raises(DataError) as caught:
        rows_of(_with_stray_quote(tmp_path, added), bad_rows=bad_rows)
    assert "quotes" in caught.value.hint and "bad_rows" not in caught.value.hint


def test_a_stray_quote_that_ends_in_its_row_removes_that_row_alone(tmp_path: Path) -> None:
    path = _with_stray_quote(tmp_path, '9999,city1,"5 inch" or so')
    assert "line 52" in refused(path) and len(rows_of(path, bad_rows="drop")[1]) == 300


def test_texts_with_line_breaks_are_no_joined_rows(tmp_path: Path) -> None:
    texts = ["one, two", "Dear all,\nthanks, bye\nfor this\nand that", "a\nb\nc\nd\ne", "x,y,z\nx,y,z\nx,y,z"]
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["n", "city", "note"], *([str(i), "c", text] for i, text in enumerate(texts))])
    assert [row[2] for row in rows_of(path)[1]] == texts


def test_all_bad_rows_are_named_in_one_message(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f'a,b\n1,2\n3\n4,5\n"{SECRET}"x,6\n7,8,9\n')
    message = refused(path)
    assert "3 rows cannot be read" in message
    assert all(part in message for part in ("line 3: 1 fields", "line 5: ',' expected", "line 6: 3 fields"))
    assert rows_of(path, bad_rows="drop")[1] == [("1", "2"), ("4", "5")]
    lines = write(tmp_path / "a.jsonl", f'{{"a": "1"}}\n{SECRET}\n[1]\n{{"a": "2"}}\n')
    assert "line 2: not valid JSON; line 3: not a JSON object" in refused(lines)
    assert rows_of(lines, bad_rows="drop")[1] == [("1",), ("2",)]
    many = refused(write(tmp_path / "b.csv", "a,b\n1,2\n" + "3\n" * 50))
    assert "50 rows cannot be read" in many and "and 30 more" in many


def test_a_nested_column_does_not_hinder_the_others(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (SELECT [1, 2] AS tags, 'x' AS kind, 3 AS n) TO '{path}'")
    assert "column 'tags' holds lists" in refused(path)
    assert rows_of(path, columns=["n", "kind"]) == (["n", "kind"], [("3", "x")])
    lines = write(tmp_path / "t.jsonl", '{"tags": [1, 2], "kind": "x", "n": 3}\n')
    assert "key 1: a list" in refused(lines)
    assert rows_of(lines, columns=["n", "kind"]) == (["n", "kind"], [("3", "x")])


def test_a_view_is_a_table(tmp_path: Path) -> None:
    path, other = tmp_path / "t.duckdb", write(tmp_path / "other.csv", f"x\n{SECRET}\n")
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE SCHEMA raw; CREATE TABLE raw.t AS SELECT 1 AS a; CREATE VIEW v AS SELECT a + 1 AS b FROM raw.t"
        )
        connection.execute(f"CREATE VIEW away AS SELECT * FROM read_csv('{other}')")
    assert rows_of(path, table="v") == (["b"], [("2",)])
    with pytest.raises(ConfigError) as caught:
        rows_of(path)
    assert "away, v, raw.t" in caught.value.hint
    assert "cannot be read" in refused(path, table="away"), "a view reads no other file"


def test_the_version_of_a_duckdb_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
    content = path.read_bytes()
    for version, writer in ((51, b"v0.8.1"), (99, b"v2.0.0")):
        path.write_bytes(content[:12] + version.to_bytes(8, "little") + content[20:52] + writer.ljust(32, b"\0") + content[84:])
        message = refused(path)
        assert f"storage version {version}, written by DuckDB {writer.decode()}" in message and duckdb.__version__ in message
    path.write_bytes(content[:4096] + b"\xff" * 5000)
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *(("t.rds", "readRDS"), ("t.json", "jq"), ("t.7z", "Unpack"), ("t.orc", "read_orc")),
        ("t.what", "--format"),
    ],
)
def test_a_hint_for_each_type_of_file_that_is_not_read(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rows_of(write(tmp_path / name, "x"))
    assert hint in caught.value.hint and name in caught.value.message


def test_a_path_of_a_parquet_file_is_no_pattern(tmp_path: Path) -> None:
    """Nor is a directory's name a column."""
    directory = tmp_path / "year=2020"
    directory.mkdir()
    with duckdb.connect(":memory:") as connection:
        for name, value in (("a[1].parquet", 1), ("a1.parquet", 2), ("b*.parquet", 3), ("bb.parquet", 4)):
            connection.execute(f"COPY (SELECT {value} AS n) TO '{directory / name}'")
    assert rows_of(directory / "a[1].parquet") == (["n"], [("1",)])
    assert rows_of(directory / "b*.parquet") == (["n"], [("3",)])
