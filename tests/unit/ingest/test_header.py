"""A file without a header must not give its first row away as column names."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.config import Config, DataConfig, parse_config, render_config
from localsynth.errors import ConfigError, DataError
from localsynth.ingest.infer import infer_schema
from localsynth.ingest.sources.base import Row
from localsynth.ingest.sources.header import looks_like_data
from localsynth.ingest.sources.open import open_source

RNG = random.Random(2)
PLANTED = "zebra lamp quartz"
SMS = [["ham", f"{PLANTED}, see you"]] + [[RNG.choice(["ham", "spam"]), f"call me at {n} or win"] for n in range(60)]
NUMBERS = [["918273", "41.5"]] + [[str(n), f"{n}.25"] for n in range(60)]
HINT = (
    "Give init --header if these are the names of the columns, --no-header if the file has none "
    "(in localsynth.toml: data.header = true or false)."
)


def table(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    path.write_text("".join(delimiter.join(f'"{field}"' for field in row) + "\n" for row in rows))
    return path


def opened(path: Path, **options: str | bool) -> tuple[list[str], list[Row]]:
    source = open_source(DataConfig.model_validate({"source": str(path), **options}))
    return source.columns, [row for batch in source.batches() for row in batch]


def refusal(path: Path, **options: str | bool) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(path, **options)
    return caught.value


# --- what looks like data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        *["7", "-3.5", " 42 ", "1e+05", "1,234.50", "12 %", "2019", "18-64"],
        *["2020-12-31", "2020-12-31T10:00:00Z", "2020-12-31 10:00", "31.12.2020", "12/31/20", "10:30"],
        *["a.b@example.org", "ask a.b@example.org first", "0a1b2c3d-1111-2222-3333-444455556666", "+49 30 123456", "(030) 12345"],
    ],
)
def test_fields_that_look_like_values(field: str) -> None:
    assert looks_like_data(["note", field], [["some", "thing"]]) == [2]


@pytest.mark.parametrize(
    "field",
    [
        "age",
        "diag_1",
        "Q1 2019",
        "größe 😀",
        "x@y",
        "a.b[0]",
        "../../etc",
        "%",
        "nan",
        "e5",
        "e-mail",
        "How old are you (0-99)?",
        "",
    ],
)
def test_fields_that_may_be_names(field: str) -> None:
    assert looks_like_data(["note", field], [["some", "17"], ["other", "18"]]) == []


def test_field_that_is_a_value_of_its_column() -> None:
    assert looks_like_data(["ham", "text"], [["spam", "ham"], ["ham", "hello"]]) == [1]
    assert looks_like_data(["ham", "text"], [["Ham", "ham"], ["spam", "a text"]]) == []


def test_code_of_the_same_shape_as_its_column() -> None:
    assert looks_like_data(["P-0017", "hello"], [["P-0018", "x"], ["Q-0400", "y"], ["", "z"], ["odd", "z"]]) == [1]
    assert looks_like_data(["diag_1", "diag_2"], [["E11", "x"], ["V27", "y"]]) == []


AGES = [[str(20 + n), f"{n}.5", "x y" if n % 2 else "age"] for n in range(60)]
ANSWERS = [[("yes", "no")[n % 2], ("north", "south")[n % 2], "text"] for n in range(120)]


def test_a_name_among_others_may_be_a_value_too() -> None:
    assert looks_like_data(["age", "2019", "kind"], [[*row[:2], "kind"] for row in AGES]) == [2, 3]
    assert looks_like_data(["age", "size", "kind"], [[*row[:2], "kind"] for row in AGES]) == []
    assert looks_like_data(["smoker", "region", "text"], ANSWERS) == []
    assert looks_like_data(["smoker", "region", "2019"], ANSWERS) == []


def test_a_row_is_no_header_because_of_missing_or_rare_values() -> None:
    assert looks_like_data(["NA", "n/a", "age"], AGES) == [3]
    assert looks_like_data(["", "maybe", "text"], ANSWERS) == [3]
    assert looks_like_data(["maybe", "text"], [[str(n % 99), "text"] for n in range(5)] + [["few", "text"]]) == [2]
    assert looks_like_data(["Bonn", "text"], [[f"town {n}", "text"] for n in range(400)]) == [2]


def test_an_empty_field_is_not_a_value() -> None:
    assert looks_like_data(["", "b", " "], [["", "x", " "], ["1", "y", " "]]) == []


def test_rows_may_be_shorter_than_the_header() -> None:
    assert looks_like_data(["a", "b", "c"], [["x"], [], ["y", "z", "c"]]) == [3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.text(st.characters(categories=["L", "N"]), min_size=1)] * 2), min_size=1), st.randoms())
def test_repeated_first_row_is_always_detected(rows: list[tuple[str, str]], rng: random.Random) -> None:
    assert looks_like_data(rng.choice(rows), rows) == [1, 2]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        (SMS, "column 1"),
        (NUMBERS, "columns 1, 2"),
        ([[str(n) for n in range(9)]] * 3, "columns 1, 2, 3, 4, 5 and 4 more"),
        ([["name", "2019", "2020"], ["x", "1", "2"]], "columns 2, 3"),
    ],
    ids=["messages", "numbers", "wide", "years"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_refusal_gives_positions_and_remedy_without_values(tmp_path: Path, rows: list[list[str]], places: str, name: str) -> None:
    path = table(tmp_path / name, rows, "\t" if name == "a.tsv" else ",")
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    error = refusal(path)
    assert error.message == f"{path}: the first line looks like a row of data, not like column names ({places})."
    assert error.hint == HINT
    assert error.__cause__ is None and error.__context__ is None


@pytest.mark.parametrize(
    "rows",
    [
        [["ham", f"{PLANTED}{'y' * 300}"], ["spam", "hello"]],
        [["ham", f"{PLANTED}\nsecond line"], ["spam", "hello"]],
        [[PLANTED, PLANTED], ["one", "two"]],
    ],
    ids=["long", "line break", "twice"],
)
def test_invalid_name_is_not_quoted_and_remedy_is_given(tmp_path: Path, rows: list[list[str]]) -> None:
    path = table(tmp_path / "a.csv", rows)
    error = refusal(path)
    assert PLANTED not in error.message + error.hint
    assert "--no-header" in error.hint
    assert opened(path, header=False) == (["column_1", "column_2"], [tuple(row) for row in rows])


def test_a_column_of_row_numbers_without_a_name_is_accepted(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [["", "age", "note"], *[[str(n), str(20 + n % 9), f"word {n}"] for n in range(50)]])
    columns, rows = opened(path)
    assert columns == ["column_1", "age", "note"]
    assert len(rows) == 50
    assert infer_schema(open_source(DataConfig(source=str(path))), [""])[0].columns[0].kind == "identifier"


def test_years_are_names_with_header_true(tmp_path: Path) -> None:
    for names in (["name", "2019", "2020"], ["2018", "2019", "2020"]):
        path = table(tmp_path / "a.csv", [names, ["x", "1", "2"]])
        assert refusal(path).hint == HINT
        assert opened(path, header=True) == (names, [("x", "1", "2")])


def test_without_a_header_every_line_is_a_row(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", SMS)
    assert opened(path, header=False) == (["column_1", "column_2"], [(label, text) for label, text in SMS])
    single = table(tmp_path / "b.csv", [["only", "one"]])
    assert opened(single, header=False)[1] == [("only", "one")]


def test_only_the_first_rows_are_examined(tmp_path: Path) -> None:
    rows = [["kind"], *[["x"]] * 1999]
    assert "column 1" in refusal(table(tmp_path / "a.csv", [*rows, ["kind"]])).message
    assert opened(table(tmp_path / "b.csv", [*rows, ["x"], ["kind"]]))[0] == ["kind"]


def test_other_formats_need_no_header_check(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"kind": "kind", "2019": "1"}) + "\n")
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"COPY (SELECT 'kind' AS kind, '1' AS \"2019\") TO '{tmp_path / 'a.parquet'}'")
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'kind' AS kind, '1' AS \"2019\"")
    for path in (lines, tmp_path / "a.parquet", tmp_path / "a.duckdb"):
        assert opened(path) == opened(path, header=True) == (["kind", "2019"], [("kind", "1")])
        with pytest.raises(ConfigError, match=r"data\.header is false, but .* is not a CSV or TSV file") as caught:
            opened(path, header=False)
        assert "Remove data.header" in caught.value.hint


def test_names_that_are_all_numbers_are_refused_in_any_format(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"918273": "x", "41.5": "y"}\n')
    error = refusal(path)
    assert "918273" not in error.message + error.hint
    assert "--header" in error.hint
    assert opened(path, header=True)[0] == ["918273", "41.5"]


# --- the configuration and the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, True, False])
def test_configuration_keeps_the_header_setting(tmp_path: Path, header: bool | None) -> None:
    data = DataConfig(source=str(table(tmp_path / "a.csv", [["kind", "size"], ["x", "1"]])), header=header)
    text = render_config(data, infer_schema(open_source(data), [""])[0], "ws")
    assert ("header = " in text) == (header is not None)
    config = parse_config(text, "localsynth.toml")
    assert isinstance(config, Config) and config.data == data


def init(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "localsynth.cli.main", "init", "ws", *options]
    environment = {**os.environ, "LOCALSYNTH_HOME": str(directory / "home")}
    return subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)


def test_init_refuses_data_header_without_quoting_it(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", SMS)
    refused = init(tmp_path, "--data", "a.csv")
    assert refused.returncode == 3
    for word in ("ham", *PLANTED.split()):
        assert word not in refused.stdout + refused.stderr
    assert "--no-header" in refused.stderr
    assert not (tmp_path / "ws").exists()

    made = init(tmp_path, "--data", "a.csv", "--no-header", "--json")
    assert made.returncode == 0, made.stderr
    assert [column["name"] for column in json.loads(made.stdout)["columns"]] == ["column_1", "column_2"]
    written = (tmp_path / "ws" / "localsynth.toml").read_text()
    assert "header = false" in written
    assert "zebra" not in written + made.stdout + made.stderr


def test_init_accepts_header_option(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", [["2019", "note"], *[[str(n), f"word {n}"] for n in range(50)]])
    made = init(tmp_path, "--data", "a.csv", "--header")
    assert made.returncode == 0, made.stderr
    assert "2019" in made.stdout
    assert "header = true" in (tmp_path / "ws" / "localsynth.toml").read_text()


def test_a_terminal_of_another_encoding_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    table(tmp_path / "a.csv", [["größe", "note"], *[["1,5 €", f"word {n % 3}"] for n in range(50)]])
    made = init(tmp_path, "--data", "a.csv", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["columns"][0] == {"name": "größe", "kind": "number", "format": "1234,5 €"}
    again = init(tmp_path, "--data", "a.csv")
    assert again.returncode != 0 and "a bug" not in again.stderr
