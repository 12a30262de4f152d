import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from localsynth.config import DataConfig, parse_config, render_config
from localsynth.errors import DataError
from localsynth.ingest.infer import infer_schema
from localsynth.ingest.sources.base import Row, Source
from localsynth.ingest.sources.open import open_source
from localsynth.schema.columns import Column, Schema

RNG = random.Random(1)
MISSING = ["", "?"]


class Rows(Source):
    """A source in memory."""

    def __init__(self, columns: list[str], rows: list[Row]) -> None:
        super().__init__(Path("rows.csv"), columns)
        self._rows = rows

    def batches(self, size: int = 2000) -> Iterator[list[Row]]:
        for start in range(0, len(self._rows), size):
            yield self._rows[start : start + size]


def guess(name: str, values: list[str | None]) -> tuple[Column, list[str]]:
    schema, notes = infer_schema(Rows([name, "anchor column"], [(value, "x") for value in values]), MISSING)
    return schema.columns[0], [note for note in notes if note.startswith(repr(name))]


def some(values: list[str], count: int = 300) -> list[str | None]:
    return [RNG.choice(values) for _ in range(count)]


def words(count: int) -> str:
    return " ".join(RNG.choice(["soft", "warm", "loose", "fine", "blue", "odd", "very", "dress"]) for _ in range(count))


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("age", [str(RNG.randrange(18, 99)) for _ in range(300)], "integer"),
        ("count", ["1.0", "", "3.0", "12.0"] * 30, "integer"),
        ("score", ["1", "2", "0"] * 100, "integer"),
        ("zero", ["0"] * 100, "integer"),
        ("price", [f"{RNG.random() * 100:.2f}" for _ in range(300)], "number"),
        ("day", [f"2020-01-{RNG.randrange(1, 29):02}" for _ in range(300)], "date"),
        ("day", ["2020-01-01 00:00:00", "2020-01-02 00:00:00"] * 30, "date"),
        ("at", ["2020-01-01T10:00:00Z", "2020-01-02"] * 30, "datetime"),
        ("flag", some(["0", "1"]), "boolean"),
        ("flag", some(["Yes", "no", "?"]), "boolean"),
        ("flag", some(["TRUE", "FALSE"]), "boolean"),
        ("answer", some(["No"]), "category"),
        ("sex", some(["m", "f"]), "category"),
        ("type", some(["ham", "spam"]), "category"),
        ("Class Name", some(["Knits", "Pants", "Lounge"]), "category"),
        ("diag_1", some([f"{n}.{n % 10}x" for n in range(250)], 5000), "category"),
        ("zip", some([f"0{n}" for n in range(1000, 1020)]), "category"),
        ("admission_type_id", some([str(n) for n in range(8)]), "category"),
        ("Clothing ID", some([str(n) for n in range(200)], 1000), "identifier"),
        ("review", [words(30) for _ in range(300)], "text"),
        ("title", [words(3) for _ in range(50)], "text"),
        ("encounter_id", [str(n) for n in RNG.sample(range(10**9), 300)], "identifier"),
        ("patient_nbr", some([str(n) for n in RNG.sample(range(10**9), 250)]), "identifier"),
        ("patientId", [f"P-{n}" for n in RNG.sample(range(10**9), 300)], "identifier"),
        ("customer_no", [str(n // 9 * 37) for n in range(2000)], "identifier"),
        ("CustomerNumber", some([str(n) for n in RNG.sample(range(10**6), 250)]), "identifier"),
        ("customerid", some([str(n) for n in RNG.sample(range(10**6), 250)]), "identifier"),
        ("kundennummer", some([str(n) for n in RNG.sample(range(10**6), 250)]), "identifier"),
        ("account", [f"AC{n // 9}" for n in range(2000)], "identifier"),
        ("num_steps", [str(n) for n in RNG.sample(range(20_000), 300)], "integer"),
        ("number of steps", [str(n) for n in RNG.sample(range(20_000), 300)], "integer"),
        ("amount_paid", [str(n) for n in RNG.sample(range(10**6), 300)], "integer"),
        ("casino", [str(n) for n in RNG.sample(range(10**6), 300)], "integer"),
        ("order", some(["first", "second"]), "category"),
        ("row", [str(n) for n in range(7, 307)], "identifier"),
        ("row", [str(n) for n in range(1, 500) if n % 5], "identifier"),  # rows were left out
        ("rank", [str(n) for n in sorted(RNG.sample(range(10**6), 300))], "integer"),  # sorted
        ("ref", [str(uuid.UUID(int=RNG.getrandbits(128))) for _ in range(50)], "identifier"),
        ("", [str(n) for n in RNG.sample(range(300), 300)], "identifier"),
        ("contact", [f"{words(1)}{n}@example.org" for n in range(100)], "surrogate"),
        ("e-mail", ["none given", *(f"x{n} at y" for n in range(9))] * 20, "surrogate"),
        ("e-mail", ["none given", "x at y"] * 20, "category"),
        ("phone", [f"0{n} {n}55" for n in range(100, 200)], "surrogate"),
        ("reached at", [f"+49 {n} 1234{n}" for n in range(100, 200)], "surrogate"),
        ("lastName", ["Meyer", "Jones", "Öz"] * 30, "surrogate"),
        ("home address", ["1 Long Road", "2 Short Lane"] * 30, "surrogate"),
        ("empty", [None, "", "?", " "] * 10, "category"),
        ("n", [str(n) for n in range(5)], "integer"),
    ],
)
def test_kinds(name: str, values: list[str | None], kind: str) -> None:
    column, _ = guess(name, values)
    assert column.kind == kind


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        (["1.5", "2.25", "3"], 2),
        (["5e-3", "1.0"], 3),
        (["0.10", "0.20"], 2),
        (["0.10", "0.25", "3.0"], 2),
        (["0.30000000000000004", "1.5"], 6),
    ],
)
def test_decimals(values: list[str], decimals: int) -> None:
    column, _ = guess("x", [*values] * 10)
    assert column.kind == "number" and column.decimals == decimals


def test_only_kinds_decimals_and_formats_are_inferred() -> None:
    """No bound, no category list, no length: those would be unpaid leaks."""
    source = Rows(
        ["age", "price", "day", "at", "kind", "note"],
        [
            (str(18 + n % 50), f"{n},25 €", f"{1 + n % 28:02}.01.2020", f"2020-01-01 10:00:{n % 60:02}", "ab"[n % 2], words(40))
            for n in range(300)
        ],
    )
    schema, _ = infer_schema(source, [""])
    assert not schema.confirmed
    for column in schema.columns:
        assert set(column.model_dump(exclude_unset=True)) <= {"name", "kind", "decimals", "max_tokens", "format"}
    assert schema.column("note").max_tokens == 128  # type: ignore[union-attr]
    assert [getattr(column, "format", None) for column in schema.columns] == [None, "1234,5 €", "%d.%m.%Y", None, None, None]
    assert {name for name, _ in schema.unmeasured()} == {"age", "price", "day", "at", "kind"}


def test_inferred_schema_survives_the_configuration_file() -> None:
    schema, _ = infer_schema(Rows(["n", 'odd "x"', "t"], [(str(n), f"{n}.5", words(30)) for n in range(300, 0, -1)]), [""])
    written = render_config(DataConfig(source="x.csv"), schema, "ws")
    assert parse_config(written, "localsynth.toml").schema_ == schema
    # What the note speaks of is there to be changed.
    assert 'kind = "text"\n# max_tokens = 128  # longer values are cut off\n' in written
    changed = parse_config(written.replace("# max_tokens = 128", "max_tokens = 64"), "localsynth.toml").schema_
    assert changed.column("t").max_tokens == 64  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "values", "note"),
    [
        ("contact", [f"{n}@example.org" for n in range(50)], "person's email"),
        ("patient_nbr", [str(n * 7) for n in range(50)], "privacy.unit"),
        ("review", [words(30) for _ in range(50)], "max_tokens"),
        ("seen", ["3/12/2020", "1/2/2021"] * 20, "other way round"),
        ("weight", ["NA", "70", "80"] * 20, "'NA' means 'no value'"),
        ("answer", ["NA", "often", "never"] * 20, "data.missing"),
        ("code", ["007", "008"] * 20, "leading zeros"),
        ("empty", ["", "?"] * 20, "no values"),
    ],
)
def test_notes_explain_the_inferred_kinds(name: str, values: list[str | None], note: str) -> None:
    assert any(note in found for found in guess(name, values)[1])


def test_a_table_of_identifiers_only_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        infer_schema(Rows(["id"], [(str(n),) for n in range(50)]), [""])


def test_a_table_like_the_clothing_reviews(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    lines = [
        f'{n},{767 + n % 30},{20 + n % 60},{"" if n % 5 else words(3)},"{words(40)}, truly",'
        f"{n % 5 + 1},{n % 2},{n * n % 40},{'AB'[n % 2]}"
        for n in range(400)
    ]
    header = ",Clothing ID,Age,Title,Review Text,Rating,Recommended IND,Positive Feedback Count,Division Name"
    path.write_text("\n".join([header, *lines]) + "\n")
    schema, _ = infer_schema(open_source(DataConfig(source=str(path))), [""])
    assert isinstance(schema, Schema)
    assert [(column.name, column.kind) for column in schema.columns] == [
        ("column_1", "identifier"),
        ("Clothing ID", "category"),
        ("Age", "integer"),
        ("Title", "text"),
        ("Review Text", "text"),
        ("Rating", "integer"),
        ("Recommended IND", "boolean"),
        ("Positive Feedback Count", "integer"),
        ("Division Name", "category"),
    ]
