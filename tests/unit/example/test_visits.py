"""The bundled example: its table keeps to its own code book, depends on itself sensibly, and holds what was planted."""

import csv
import re
import stat
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localsynth.config import Config, parse_config
from localsynth.errors import ConfigError, ResourceError
from localsynth.example.visits import example_config, write_example
from localsynth.llm.row_text import parse_value, value_pattern
from localsynth.schema.columns import Identifier, Record, Surrogate, Text, conform
from localsynth.system.files import model_directory

Row = dict[str, str]


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    return read(write_example(tmp_path_factory.mktemp("example")))


def config() -> Config:
    return parse_config(example_config(Path("visits.csv"), "demo"), "localsynth.toml")


def admitted(rows: list[Row], chosen: Callable[[Row], bool]) -> float:
    return mean(row["admitted"] == "yes" for row in rows if chosen(row))


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    first, again, other = (write_example(tmp_path / name, 50, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first.name == "visits.csv"
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_the_columns_are_those_of_the_schema_in_their_order(rows: list[Row]) -> None:
    assert list(rows[0]) == [column.name for column in config().schema_.columns]
    assert len(rows) == config().privacy.public_size == 1000


@given(rows=st.integers(1, 40), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_every_value_keeps_to_the_declared_schema(tmp_path_factory: pytest.TempPathFactory, rows: int, seed: int) -> None:
    schema = config().schema_
    assert not schema.unmeasured() and schema.confirmed
    table = read(write_example(tmp_path_factory.mktemp("example"), rows, seed))
    assert len(table) == rows
    for row in table:
        record: Record = {}
        for column in schema.learned():
            text = row[column.name]
            assert text or column.nullable, column.name
            if text:
                assert re.fullmatch(value_pattern(column), text), column.name
            record[column.name] = parse_value(column, text) if text else None
        assert conform(schema, record) == record
        assert row["discharge"] == "" or row["discharge"] >= row["arrival"][:10]
        assert 5 <= len(row["note"].split()) <= 14


def test_it_has_columns_of_every_kind_and_missing_values(rows: list[Row]) -> None:
    kinds = {column.kind for column in config().schema_.columns}
    assert kinds == {"identifier", "surrogate", "datetime", "integer", "category", "number", "boolean", "date", "text"}
    missing = {name: mean(row[name] == "" for row in rows) for name in rows[0]}
    assert {name for name, share in missing.items() if share} == {"temp", "discharge"}
    assert 0.03 < missing["temp"] < 0.2
    identifiers = [c.name for c in config().schema_.columns if isinstance(c, Identifier)]
    assert all(len({row[name] for row in rows}) == len(rows) for name in identifiers)
    (patient,) = (c.name for c in config().schema_.columns if isinstance(c, Surrogate))
    assert len({row[patient] for row in rows}) > 0.9 * len(rows)


def test_age_and_triage_decide_who_is_admitted(rows: list[Row]) -> None:
    urgent = admitted(rows, lambda row: row["triage"] in "12")
    calm = admitted(rows, lambda row: row["triage"] in "45")
    assert urgent > 0.5 > 5 * calm
    assert admitted(rows, lambda row: int(row["age"]) >= 75) > 2 * admitted(rows, lambda row: int(row["age"]) < 40)
    stays = [row for row in rows if row["admitted"] == "yes" and row["discharge"]]
    assert stays and all(row["discharge"] > row["arrival"][:10] for row in stays)


def test_the_complaint_decides_the_temperature(rows: list[Row]) -> None:
    hot = {
        name: mean(float(row["temp"]) >= 38 for row in rows if row["complaint"] == name and row["temp"])
        for name in {row["complaint"] for row in rows}
    }
    assert hot["fever"] > 0.8
    assert hot["laceration"] == hot["ankle injury"] == 0
    assert 0.2 < hot["cough"] < 0.6


def test_few_come_before_dawn(rows: list[Row]) -> None:
    hours = [int(row["arrival"][11:13]) for row in rows]
    assert sum(2 <= hour < 6 for hour in hours) * 2 < sum(10 <= hour < 14 for hour in hours)
    assert len({row["arrival"][:7] for row in rows}) == 12


def test_a_note_agrees_with_its_row(rows: list[Row]) -> None:
    for row in rows:
        note, age = row["note"], int(row["age"])
        nouns = ("girl", "boy", "child") if age < 16 else ("woman", "man", "person")
        noun = nouns["FMX".index(row["sex"])]
        assert re.match(rf"{age} yo {noun} |{noun.capitalize()}, {age}, |Baby {noun} ", note)
        assert note.startswith("Baby") == (age == 0)
        measured = re.search(r"Temp ([0-9.]+)\.", note)
        assert measured is None or measured[1] == row["temp"]


def test_notes_tell_the_most_and_the_least_urgent(rows: list[Row]) -> None:
    for told, triage in (("[Rr]esus", "1"), ("Can wait|Fast track", "5")):
        assert {row["triage"] for row in rows if re.search(told, row["note"])} == {triage}


def test_urgent_and_old_people_come_by_ambulance(rows: list[Row]) -> None:
    def by_ambulance(chosen: Callable[[Row], bool]) -> float:
        return mean(" by ambulance with " in row["note"] for row in rows if chosen(row))

    assert by_ambulance(lambda row: row["triage"] in "12") > 3 * by_ambulance(lambda row: row["triage"] in "45") > 0
    assert by_ambulance(lambda row: int(row["age"]) >= 65) > 2 * by_ambulance(lambda row: int(row["age"]) < 16) > 0


def test_personal_data_is_planted_and_belongs_to_nobody(rows: list[Row]) -> None:
    notes = [row["note"] for row in rows]
    phones = [note for note in notes if "555" in note]
    mails = [note for note in notes if "@" in note]
    names = [note for note in notes if note.endswith(" is here.")]
    assert all(re.search(r"555-01[0-9]{2}\.$", note) for note in phones)
    assert all(re.search(r" [a-z]\.[a-z]+@example\.org\.$", note) for note in mails)
    assert all(re.search(r" [A-Z][a-z]+ [A-Z][A-Za-z]+ is here\.$", note) for note in names)
    for planted in (phones, mails, names):
        assert 0.01 < len(planted) / len(rows) < 0.03
    assert len(set(notes)) > 0.95 * len(notes)
    assert 9 <= mean(len(note.split()) for note in notes) <= 10


def test_the_configuration_keeps_its_promises_and_its_source() -> None:
    source = Path('/data/with "quotes" and \\ and ü/visits.csv')
    text = example_config(source, "my-demo", rows=40)
    parsed = parse_config(text, "localsynth.toml")
    assert parsed.data.source == str(source)
    assert (parsed.privacy.epsilon, parsed.privacy.public_size, parsed.privacy.unit) == (8.0, 40, "row")
    assert (parsed.train.epochs, parsed.sample.rows) == (0.8, 150)
    assert "localsynth plan my-demo" in text


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_example(tmp_path, rows=0)
    assert not (tmp_path / "visits.csv").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError):
        write_example(tmp_path / "file" / "below")


@pytest.mark.model
def test_notes_fit_their_tokens(rows: list[Row]) -> None:
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth_models.catalog import catalog

    path = model_directory() / catalog()["smollm2-135m-instruct"].file
    if not path.is_file():
        pytest.skip("the base model is not here: localsynth models fetch smollm2-135m-instruct")
    note = config().schema_.column("note")
    assert isinstance(note, Text)
    with Vocabulary(path) as vocabulary:
        lengths = [len(vocabulary.tokenize(f" {row['note']}\n")) for row in rows]
    assert mean(length <= note.max_tokens for length in lengths) >= 0.95
