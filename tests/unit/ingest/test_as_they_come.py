"""Columns as people have them: the right kind and the right format, with nothing declared."""

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import stdnum.iban
import stdnum.luhn

from localsynth.config import DataConfig
from localsynth.ingest.infer import infer_schema
from localsynth.ingest.parse import parse_value
from localsynth.ingest.sources.open import open_source
from localsynth.schema.columns import Column, Identifier, Number, written
from tests.unit.ingest.test_infer import MISSING, Rows, guess

RNG = random.Random(24)
DAYS = [dt.date(1950, 1, 1) + dt.timedelta(days=17 * n) for n in range(1500)]


def digits(count: int) -> str:
    return "".join(RNG.choices("0123456789", k=count))


def letters(count: int) -> str:
    return "".join(RNG.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=count))


def many(make: Callable[[], str], count: int = 300) -> list[str | None]:
    return [make() for _ in range(count)]


def card() -> str:
    number = "4" + digits(14)
    total = sum(sum(divmod(int(d) * (2 - n % 2), 10)) for n, d in enumerate(number))
    return number + str(-total % 10)


def nhs() -> str:
    while True:
        number = digits(9)
        check = 11 - sum((10 - n) * int(d) for n, d in enumerate(number)) % 11
        if check < 10:
            return f"{number[:3]} {number[3:6]} {number[6:]}{check}"


def iban() -> str:
    account = digits(18)
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


@pytest.mark.parametrize(
    ("name", "values", "kind", "form"),
    [
        ("CO", ["2,6", "13,6", "0,4"] * 50, "number", "1234,5"),
        ("amount", ["1.204,50", "12,00", "-3,75"] * 50, "number", "1.234,5"),
        ("price", ["$4.99", "$1,204.50", "$0.00"] * 50, "number", "$1,234.5"),
        ("preis", ["4,99 €", "1.204,50 €"] * 50, "number", "1.234,5 €"),
        ("share", ["12 %", "7 %", "100 %"] * 50, "integer", "1234 %"),
        ("rate", ["1.2%", "0.75%", "-3%"] * 50, "number", "1234.5%"),
        ("installs", ["1,000+", "500+", "10,000,000+"] * 50, "integer", "1,234+"),
        ("size", [f"{n}.5 MB" for n in range(40)], "number", "1234.5 MB"),
        ("population", ["1 204", "12", "3 400 000"] * 50, "integer", "1 234"),
        ("visits", ["4.0", "12.0", "", "7.0"] * 50, "integer", "1234.0"),
        ("crp", ["<0.5", "0.7", "12.3"] * 50, "number", None),
        ("cases", ["<5", "7", "12"] * 50, "integer", None),
        ("day", [f"{d:%d.%m.%Y}" for d in DAYS], "date", "%d.%m.%Y"),
        ("day", [f"{d:%m/%d/%y}" for d in DAYS], "date", "%m/%d/%y"),
        ("Date", [f"{d:%d/%m/%Y}" for d in DAYS], "date", "%d/%m/%Y"),
        ("day", [f"{d.month}/{d.day}/{d.year}" for d in DAYS], "date", "%-m/%-d/%Y"),
        ("day", [f"{d:%d %b %Y}" for d in DAYS], "date", "%d %b %Y"),
        ("day", [f"{d:%B} {d.day}, {d.year}" for d in DAYS], "date", "%B %-d, %Y"),
        ("day", [f"{d:%Y%m%d}" for d in DAYS], "date", "%Y%m%d"),
        ("month", [f"{d:%Y-%m}" for d in DAYS], "date", "%Y-%m"),
        ("month", [f"{d:%b %Y}" for d in DAYS], "date", "%b %Y"),
        ("born", [f"{d} 00:00:00" for d in DAYS], "date", "%Y-%m-%d 00:00:00"),
        ("at", ["2020-01-01T10:00:00Z", "2020-02-01T11:30:00Z"] * 50, "datetime", "%Y-%m-%dT%H:%M:%SZ"),
        ("at", ["2020-01-01 10:00:00.125", "2020-02-01 11:30:00.000"] * 50, "datetime", "%Y-%m-%d %H:%M:%S.%3f"),
        ("at", ["2020-01-01T10:00:00.000Z", "2020-02-01T11:30:00.000Z"] * 50, "datetime", "%Y-%m-%dT%H:%M:%S.%3fZ"),
        ("at", ["2020-01-01 10:00:00.125", "2020-02-01 11:30:00"] * 50, "datetime", None),
        ("took", ["1:30:05", "26:00:59", "0:00:00"] * 50, "integer", "h:mm:ss"),
        ("took", ["01:30", "126:59", "12:00"] * 50, "integer", "hh:mm"),
        ("lap", ["1:30.25", "1:05.99"] * 50, "number", "h:mm"),
        ("lap", ["0:01:30.250", "0:01:05.999"] * 50, "number", "h:mm:ss"),
        ("wait", [f"{n} min" for n in range(40)], "integer", "1234 min"),
        ("wait", ["PT1H30M", "PT5M"] * 50, "category", None),
        ("at", ["2020-01-01 10:00:00+02:00", "2020-02-01 11:30:00+02:00"] * 50, "datetime", "%Y-%m-%d %H:%M:%S+02:00"),
        ("at", ["2020-01-01 10:00:00+02:00", "2020-02-01 11:30:00+01:00"] * 50, "datetime", "%Y-%m-%d %H:%M:%S%:z"),
        ("at", ["17.08.2021 07:57", "01.02.2021 23:00"] * 50, "datetime", "%d.%m.%Y %H:%M"),
        ("at", ["8/7/2021 1:05 PM", "12/17/2021 11:15 AM"] * 50, "datetime", "%-m/%-d/%Y %-I:%M %p"),
        ("start", ["07:57", "18:00", "23:59"] * 50, "time", "%H:%M"),
        ("Time", ["18.00.00", "19.00.00", "00.00.00"] * 50, "time", "%H.%M.%S"),
        ("score", ["2:1", "0:0", "3:2"] * 50, "category", None),
        ("season", [f"{n}-{(n + 1) % 100:02}" for n in range(1990, 2020)] * 5, "category", None),
        ("town", [f"Town{letters(3)}" for _ in range(1500)], "category", None),
        ("ward", [f"{RNG.randrange(1, 1000):03}" for _ in range(2000)], "category", None),
        ("diagnosis", [f"{letters(1)}{n % 90 + 10}.{n % 7}" for n in range(4000)], "category", None),
        ("smoker", ["Y", "N", "Y"] * 50, "boolean", "Y/N"),
        ("smoker", ["yes", "no"] * 50, "boolean", "yes/no"),
        ("flag01", ["0", "1", "1"] * 50, "boolean", "1/0"),
        ("flag", ["T", "F"] * 50, "boolean", "T/F"),
        ("raucher", ["ja", "nein"] * 50, "boolean", "ja/nein"),
        ("flag", ["true", "false"] * 50, "boolean", None),
        # Names that mislead
        ("claim", ["0"] * 60 + [str(RNG.randrange(100, 90_000)) for _ in range(140)], "integer", None),
        ("claim", ["0"] * 600 + [f"{RNG.uniform(9, 9e4):.2f}" for _ in range(400)], "number", None),
        ("body_mass_index", [f"{RNG.uniform(18, 40):.2f}" for _ in range(300)], "number", None),
        ("consumer_price_index", [f"{RNG.uniform(90, 120):.3f}" for _ in range(300)], "number", None),
        ("cost_per_visit", [str(RNG.randrange(10_000, 90_000)) for _ in range(300)], "integer", None),
        ("total_claim", [f"{RNG.uniform(9, 900):.2f}" for _ in range(300)], "number", None),
        ("NO", [str(RNG.randrange(5, 400)) for _ in range(1000)], "integer", None),
        ("email", ["yes", "no"] * 50, "boolean", "yes/no"),
        ("mail", ["yes"] * 50, "category", None),
        ("Street", ["Pave", "Grvl", "Pave"] * 50, "category", None),
        ("street", ["paved"] * 50, "category", None),
        ("name", ["hawaiian", "classic_dlx", "mexicana"] * 50, "category", None),
        ("name", [f"person {i}" for i in range(150)], "surrogate", None),
        ("license_issue_date", [f"{d}" for d in DAYS], "date", None),
        ("phone", ["iPhone", "Android", "none"] * 50, "category", None),
        ("ean", [f"978{n * 123_456_789 % 10**10:010}" for n in range(40)] * 20, "category", None),
        # Keys
        ("invoice", [f"INV-2024-{n * 7 % 1000:05}" for n in range(1000)], "identifier", "INV-2024-#####"),
        ("patient_id", [f"{1000 + n // 12}" for n in range(1200)], "identifier", None),
        ("subject", [f"S{n // 10:03}" for n in range(1000)], "identifier", "S###"),
        # People
        ("ssn", many(lambda: f"{digits(3)}-{digits(2)}-{digits(4)}"), "identifier", "###-##-####"),
        ("nummer", many(lambda: f"{digits(3)}-{digits(2)}-{digits(4)}"), "identifier", "###-##-####"),
        ("conto", many(iban), "identifier", "DE####################"),
        ("carta", many(card), "identifier", "4###############"),
        (
            "code",
            [f"978{n:09}{-sum((1 + i % 2 * 2) * int(d) for i, d in enumerate(f'978{n:09}')) % 10}" for n in range(90)],
            "identifier",
            "9780000000###",
        ),
        ("number", many(nhs), "identifier", "### ### ####"),
        ("mrn", many(lambda: "0" + digits(6)), "identifier", "#######"),
        ("passaporto", many(lambda: letters(2) + digits(7)), "identifier", "??#######"),
        ("targa", many(lambda: f"{letters(2)} {digits(3)} {letters(2)}"), "identifier", "?? ### ??"),
        ("host", many(lambda: f"10.{RNG.randrange(256)}.{RNG.randrange(256)}.7"), "surrogate", None),
        ("host", many(lambda: f"2001:db8:{RNG.randrange(2**16):x}::1"), "surrogate", None),
        ("tel", many(lambda: f"0{digits(3)} {digits(6)}"), "surrogate", None),
        ("contact", ["Anna Rossi", "Peter Schmidt", "Mary Jones", "Luis Garcia"] * 30, "surrogate", None),
        ("doctor", [f"Dr. {letters(1)}{'aeiou'[n % 5]}mmer" for n in range(60)], "surrogate", None),
        ("nome", ["Achille", "Giulia", "Marco", "Öz"] * 30, "surrogate", None),
        ("Gestore", ["Rossi, Anna", "Bianchi, Marco", "Verdi, Luca"] * 30, "surrogate", None),
        ("indirizzo", [f"Via Roma {n}, Milano" for n in range(1, 90)], "surrogate", None),
        ("wohnt", [f"Lange Straße {n}" for n in range(1, 90)], "surrogate", None),
        ("adresse", [f"Dorf {n}" for n in range(1, 90)], "surrogate", None),
    ],
)
def test_kind_and_format(name: str, values: list[str | None], kind: str, form: str | None) -> None:
    column, notes = guess(name, values)
    assert (column.kind, getattr(column, "format", None)) == (kind, form)
    if kind in ("identifier", "surrogate"):
        assert any("replaced by" in note or "taken as a key" in note for note in notes), "never without a word"
        return
    for value in values:
        read = parse_value(column, value, MISSING)
        assert parse_value(column, written(column, read), MISSING) == read
        # Zones become one, fractions of a second zeros, and numbers get the same number of decimals.
        if form is not None and form not in ("1234.5%", "%Y-%m-%d %H:%M:%S%:z", "%Y-%m-%d %H:%M:%S.%3f"):
            assert written(column, read) == (value or None)


def test_new_keys_have_the_check_digits_that_all_keys_have() -> None:
    for name, make, is_valid in (("conto", iban, stdnum.iban.is_valid), ("carta", card, stdnum.luhn.is_valid)):
        column, _ = guess(name, many(make))
        assert isinstance(column, Identifier)
        keys = [str(column.numbered(number)) for number in range(1, 300)]
        assert len(set(keys)) == 299 and all(map(is_valid, keys)), name
        wrong = make()[:-1] + "x"
        other, _ = guess(name, [*many(make), wrong.replace("x", "0"), wrong.replace("x", "1")])
        assert isinstance(other, Identifier) and other.check is None, "one key without them is enough"


def test_a_marker_of_missing_values_makes_no_category_of_numbers() -> None:
    for values, kind in ((["1.5", "unknown", "20.25"], "number"), (["3", "N/A", "41"], "integer"), (["01.02.2020", "-"], "date")):
        column, notes = guess("size", [*values] * 50)
        assert column.kind == kind and column.missing == sorted([*MISSING, values[1]])
        assert [parse_value(column, value, []) is None for value in values] == [value == values[1] for value in values]
        assert "means 'no value'" in notes[0]
    for values in (["yes", "no", "unknown"], ["a", "none", "b"], ["007", "-", "112"]):
        column, notes = guess("size", [*values] * 50)
        assert column.kind == "category" and column.missing is None and "if that means 'no value'" in notes[0]


def test_a_limit_that_many_values_share_is_kept() -> None:
    column, notes = guess("crp", ["<0.5"] * 20 + ["0.7", "12.3"] * 50)
    assert isinstance(column, Number) and (column.below, column.above) == (0.5, None)
    assert "below = 0.5" in notes[0]
    assert column.written(parse_value(column, "<0.5", MISSING)) == "<0.5"


@pytest.mark.parametrize("values", [["<0.5"] * 19, ["<0.5", "<1"] * 20, ["<0.5", "0.2"] * 20, ["<=0.5"] * 30])
def test_a_limit_of_few_or_of_several_kinds_is_not_kept(values: list[str | None]) -> None:
    column, notes = guess("crp", [*values, *["0.7", "12.3"] * 50])
    assert isinstance(column, Number) and column.below is None
    assert "declare the limit" in notes[0]


def test_towns_and_codes_start_no_training() -> None:
    """Text is only what has words and varies, and says what it costs."""
    for value in ("Aachen", "R-1.7", "https://example.org/a/b/c/d/e", "New York"):
        values = [f"{value}{n % 400}" for n in range(900)]
        assert guess("x", values)[0].kind != "text"
    for name in ("{} Valley College", "MEL'S DINER NO. {}", "The Return of {}", "{} AND SONS, LIMITED"):
        column, notes = guess("name of it", [name.format(f"{letters(1)}{letters(5).lower()}") for _ in range(900)])
        assert column.kind == "category" and any("rare values" in note for note in notes), name
    column, notes = guess("x", [f"the patient came on day {n} and left" for n in range(300)])
    assert column.kind == "text" and any("hours" in note for note in notes)


@pytest.mark.parametrize(
    "text",
    [
        "Some major design flaws {}",
        "not what I expected {}",
        "FELL DOWN SEVEN STEPS AT HOME, HURT LEFT ARM {}",
        "他 今天 来 了 {}",
    ],
)
def test_prose_is_a_text_however_it_is_written(text: str) -> None:
    assert guess("x", [text.format(n) for n in range(300)])[0].kind == "text"


@pytest.mark.parametrize(
    ("values", "rare"),
    [(["a"] * 90 + ["b"] * 10, False), (["a"] * 96 + list("bcde"), False), (["a"] * 90 + list("bcdefg"), True)],
)
def test_rare_values_that_may_become_other_are_said(values: list[str | None], rare: bool) -> None:
    assert any("rare values" in note for note in guess("x", values)[1]) == rare


@pytest.mark.parametrize(
    ("name", "values", "note"),
    [
        ("crp", ["<0.5", "<1", "12.3"] * 50, "declare the limit"),
        ("at", ["2020-01-01 10:00:00.125"] * 50, "fractions"),
        ("day", ["01/02/2021", "03/04/2021"] * 50, "other way round"),
        ("x", ["1,234", "5,678"] * 50, "thousands"),
        ("patient_id", [f"{1000 + n // 12}" for n in range(1200)], "set privacy.unit to 'patient_id'"),
    ],
)
def test_what_the_format_loses_is_said(name: str, values: list[str | None], note: str) -> None:
    assert any(note in found for found in guess(name, values)[1])


def test_a_column_has_no_two_notes_that_disagree() -> None:
    """Once: 'taken as codes', and then 'free text'."""
    _, notes = guess("ward", [f"{n % 999:03}" for n in range(5000)])
    assert "codes" in notes[0] and not any("text" in note for note in notes)


def test_tables_as_files_have_them(tmp_path: Path) -> None:
    """Hourly measurements with decimal commas, and stays with births over 90 years."""
    hours = "".join(f'{10 + n // 24}/03/2004,{n % 24:02}.00.00,"{n % 7},{n % 10}","{13 - n % 20},{n % 9}"\n' for n in range(300))
    stays = "".join(
        f"{1934 + n % 90}-03-{1 + n % 28:02},2024-01-{1 + n % 28:02},2024-02-{1 + n % 28:02},{'FM'[n % 2]},w{n % 5},"
        f"{('home', 'died')[n % 9 == 0]},{('public', 'private')[n % 4 == 0]}\n"
        for n in range(300)
    )
    for header, lines, kinds in (
        ("Date,Time,CO,T", hours, ["date %d/%m/%Y", "time %H.%M.%S", "number 1234,5", "number 1234,5"]),
        ("dateOfBirth,admission,discharge,sex,ward,outcome,insurance", stays, ["date"] * 3 + ["category"] * 4),
    ):
        (tmp_path / "t.csv").write_text(f"{header}\n{lines}")
        schema, _ = infer_schema(open_source(DataConfig(source=str(tmp_path / "t.csv"))), [""])
        found = [f"{column.kind} {getattr(column, 'format', None) or ''}".strip() for column in schema.columns]
        assert found == kinds


def infer(values: list[str]) -> Column:
    return infer_schema(Rows(["flag", "anchor"], [(value, "x") for value in values]), [""])[0].columns[0]


def test_a_count_that_begins_like_a_flag_is_a_count() -> None:
    assert infer(["0", "1"] * 12_500).kind == "boolean"
    assert infer(["0", "1"] * 12_500 + ["0", "1", "2"]).kind == "integer"
    assert infer(["3"] * 25_000 + ["4.5"]).kind == "number"
    assert infer(["1"] * 25_000 + ["n/k"]).kind == "category"


def test_a_prefix_of_few_keys_is_no_part_of_their_form() -> None:
    """It would be a value of the table."""
    assert guess("id", [f"MILLER-{n}" for n in range(19)])[0].format is None  # type: ignore[union-attr]
    assert guess("id", [f"MILLER-{n}" for n in range(10, 40)])[0].format == "MILLER-##"  # type: ignore[union-attr]
