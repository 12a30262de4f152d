"""The Python API on a small table without text: frames in and out, cells run twice, and what is refused."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

import localsynth as ls
from localsynth.errors import ConfigError, LocalsynthError

ROWS = 600


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALSYNTH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def inferred() -> ls.Schema:
    return ls.Schema.infer(visits())


def visits() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "visit": range(ROWS),
            "sex": [("F", "M")[number % 2] for number in range(ROWS)],
            "age": [20 + number % 40 for number in range(ROWS)],
            "day": pd.date_range("2024-01-01", periods=ROWS, freq="8h").date,
        }
    )


def declared(schema: ls.Schema) -> ls.Schema:
    return (
        schema.change("sex", kind="category", values=["F", "M"])
        .change("age", min=0, max=110)
        .change("day", min="2024-01-01", max="2024-12-31")
        .declare(constraints=["age >= 18"], description="Visits")
        .confirm()
    )


def test_from_a_frame_to_a_frame(home: Path, inferred: ls.Schema) -> None:
    schema = declared(inferred)
    assert [column.kind for column in schema.columns.columns] == ["identifier", "category", "integer", "date"]
    assert "<td>sex</td>" in schema._repr_html_()
    settings = {"privacy.public_size": ROWS, "sample.seed": 1}
    for _ in range(2):  # a cell is run twice
        synthesizer = ls.Synthesizer("ws", schema, epsilon=2, settings=settings)
    assert synthesizer.plan().epsilon["total"] == 2

    with pytest.raises(LocalsynthError, match="was a data frame"):
        synthesizer.fit()
    fitted = synthesizer.fit(visits())
    assert fitted.epsilon_guaranteed <= 2
    with pytest.raises(LocalsynthError, match="is fitted"):
        synthesizer.fit(visits())
    with pytest.raises(LocalsynthError, match="not the one that the workspace holds"):
        synthesizer.fit(visits().iloc[1:].reset_index(drop=True), again=True)
    certificate = synthesizer.certificate
    assert certificate.epsilon == fitted.epsilon_guaranteed and ls.verify(certificate.path).valid

    first = synthesizer.sample(50)
    more = synthesizer.sample(20, where="sex = 'F'")
    like = synthesizer.sample(like=pd.DataFrame({"age": [30, 31, 32]}))
    assert [len(rows) for rows in (first, more, like, synthesizer.rows())] == [50, 20, 3, 73]
    frame = first.to_pandas()
    assert list(frame.columns) == list(visits().columns) and frame["visit"].tolist() == list(range(1, 51))
    assert set(more.to_pandas()["sex"]) == {"F"} and like.to_pandas()["age"].tolist() == [30, 31, 32]
    assert (frame["age"] >= 18).all() and frame["day"].dtype.kind == "M"
    assert "10 of 50 synthetic rows" in first._repr_html_()

    with pytest.raises(ConfigError, match="another schema or other settings"):
        ls.Synthesizer("ws", schema, epsilon=3, settings=settings)
    opened = ls.open("ws")
    assert len(opened.rows()) == 73 and opened.schema.columns == schema.columns
    opened.erase()
    with pytest.raises(LocalsynthError, match="erased"):
        opened.evaluate()


def test_a_file_is_read_again_at_the_fit(home: Path) -> None:
    visits().to_csv("visits.csv", index=False)
    synthesizer = ls.Synthesizer("ws", declared(ls.Schema.infer("visits.csv")), settings={"privacy.public_size": ROWS})
    with pytest.raises(ConfigError, match="not from other"):
        synthesizer.fit("other.csv")
    assert synthesizer.fit("visits.csv").epsilon_spent <= 4
    assert len(synthesizer.sample(5)) == 5


def test_a_frame_reaches_no_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "HOME"):
        (home / name).mkdir()
        monkeypatch.setenv(name, str(home / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    frame = visits().assign(sex="planted-value")
    synthesizer = ls.Synthesizer("ws", ls.Schema.infer(frame).confirm(), settings={"privacy.public_size": ROWS})
    synthesizer.fit(frame)
    synthesizer.sample(like=frame[["sex"]].head(3))
    held = {path.name for path in home.rglob("*") if path.is_file() and b"planted-value" in path.read_bytes()}
    # All rows share the value, so it is released in what is public, which shows that the search finds it.
    assert "schema.json" in held
    assert held <= {"schema.json", "certificate.json", "marginals.json", "run.json", "synthetic.duckdb", "synthetic.duckdb.wal"}


def test_kinds_that_only_a_frame_knows() -> None:
    """Whole numbers that are floats because some are missing, durations below a day, and times of day."""
    numbers = pd.Series(range(ROWS))
    frame = pd.DataFrame(
        {
            "whole": numbers.where(numbers % 7 > 0) % 50,
            "short": pd.to_timedelta(numbers * 61, unit="s"),
            "negative": pd.to_timedelta(numbers * 250 - 1000, unit="ms"),
            "hour": pd.to_datetime(numbers * 61, unit="s").dt.time,
        }
    )
    columns = [(column.kind, getattr(column, "format", None)) for column in ls.Schema.infer(frame).columns.columns]
    assert columns == [("integer", None), ("integer", "hh:mm:ss"), ("number", "hh:mm:ss"), ("time", None)]


def test_messages_name_no_descriptor(home: Path, inferred: ls.Schema) -> None:
    with pytest.raises(LocalsynthError, match=r"^<data frame> has a header but no rows"):
        ls.Schema.infer(visits().head(0))
    synthesizer = ls.Synthesizer("ws", declared(inferred), settings={"privacy.public_size": ROWS})
    synthesizer.fit(visits())
    with pytest.raises(LocalsynthError, match=r"^<like>: row 1"):
        synthesizer.sample(like=pd.DataFrame({"age": [999]}))


def test_rows_as_polars_and_arrow(home: Path, inferred: ls.Schema) -> None:
    pl, pa = (pytest.importorskip(name, reason="needs polars and pyarrow") for name in ("polars", "pyarrow"))
    schema = ls.Schema.infer(pl.from_pandas(visits()))
    assert schema.columns == inferred.columns == ls.Schema.infer(pa.Table.from_pandas(visits())).columns
    synthesizer = ls.Synthesizer("ws", declared(schema), settings={"privacy.public_size": ROWS})
    synthesizer.fit(pl.from_pandas(visits()))
    rows = synthesizer.sample(12)
    assert rows.to_polars().shape == rows.to_arrow().shape == (12, 4)
    assert rows.to_polars()["sex"].to_list() == rows.to_arrow()["sex"].to_pylist() == rows.to_pandas()["sex"].tolist()
    assert rows.to_polars().schema["day"] == pl.Date and rows.to_arrow().schema.field("day").type == pa.date32()


def open_files() -> list[str]:
    return [target for path in Path("/proc/self/fd").iterdir() if "memfd" in (target := str(os.path.realpath(path)))]


def test_a_refused_frame_leaves_nothing_open() -> None:
    before = open_files()
    for frame in (visits().assign(odd=[1j] * ROWS), visits().assign(odd=[[1]] * ROWS).set_index("visit")):
        with pytest.raises(ConfigError):
            ls.Schema.infer(frame)
    assert open_files() == before


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (visits().set_index("visit"), "index 'visit' would be lost"),
        (visits().rename(columns={"sex": "AGE"}), "same name"),
        (visits().rename(columns={"sex": 3}), "not all strings"),
    ],
    ids=["index", "same name", "number"],
)
def test_a_frame_that_would_lose_something_is_refused(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(LocalsynthError, match=said):
        ls.Schema.infer(frame)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "zip", "min": 1}, "no column 'zip'"),
        ({"name": "age", "colour": 1}, "colour"),
        ({"name": "age", "min": "x"}, "min"),
    ],
)
def test_a_change_that_cannot_be(inferred: ls.Schema, change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        inferred.change(**change)  # type: ignore[arg-type]
    assert said in str(refused.value)


@pytest.mark.parametrize("data", [3, [1, 2], {"a": [1]}])
def test_what_is_no_table_is_refused(data: object) -> None:
    with pytest.raises(ConfigError, match="cannot be read as a table"):
        ls.Schema.infer(data)


def test_a_setting_without_a_section_is_refused(home: Path, inferred: ls.Schema) -> None:
    with pytest.raises(ConfigError, match="names no section"):
        ls.Synthesizer("ws", inferred, settings={"epochs": 3})


def test_public_names() -> None:
    assert ls.__all__ == ["Certificate", "LocalsynthError", "Rows", "Schema", "Synthesizer", "open", "verify"]
    assert all(getattr(ls, name).__doc__ for name in ls.__all__)
    with pytest.raises(AttributeError):
        ls.nothing  # noqa: B018


def test_importing_the_package_loads_nothing() -> None:
    code = "import localsynth, sys; print([name for name in ('pydantic', 'duckdb', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
