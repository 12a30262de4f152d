"""A table as people have it, with nothing declared: the synthetic one is written in the same forms, and verified as they are."""

import csv
import datetime as dt
import random
import re

FORMS = {
    "invoice": r"INV-2024-\d{5}",
    "born": r"(0[1-9]|[12]\d|3[01])\.(0[1-9]|1[0-2])\.\d{4}",
    "CO": r"-?\d+,\d",
    "price": r"-?\$(\d{1,3}(,\d{3})*)\.\d\d",
    "smoker": r"[YN]",
    "month": r"\d{4}-\d\d",
    "Time": r"\d\d\.\d\d\.\d\d",
    "at": r"2021-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "ssn": r"\d{3}-\d{2}-\d{4}",
}


def test_the_synthetic_table_is_written_as_the_original(localsynth, tmp_path):
    rng = random.Random(5)
    days = [dt.date(2021, 1, 1) + dt.timedelta(days=rng.randrange(360)) for _ in range(600)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(FORMS)
        for number, day in enumerate(days):
            price, co = f"${rng.choice([4.99, 1249.0]):,.2f}", f"{rng.randrange(60) / 10:.1f}".replace(".", ",")
            moment, ssn = f"{day}T{number % 24:02}:{number % 60:02}:00Z", f"{rng.randrange(999):03}-{number % 99:02}-{number:04}"
            hour = f"{number % 24:02}.00.00"
            row = [f"INV-2024-{number:05}", f"{day:%d.%m.%Y}", co, price, "YN"[number % 2], f"{day:%Y-%m}", hour, moment, ssn]
            table.writerow(row)
    localsynth.ok("init", "ws", "--data", "t.csv")
    localsynth.ok("rehearse", "ws", "--rows", 5)
    localsynth.ok("run", "ws", "--rows", 60, "--set", "privacy.epsilon=50")
    certificate = next((tmp_path / "ws" / "runs").glob("*/certificate.json"))
    for kind in ("csv", "parquet"):
        localsynth.ok("export-data", "ws", "--format", kind, "--out", f"made.{kind}")
        localsynth.ok("verify", certificate, "--table", f"made.{kind}")
    with (tmp_path / "made.csv").open(newline="") as file:
        made = list(csv.DictReader(file))
    assert len(made) == 60 and len({row["invoice"] for row in made}) == 60
    with (tmp_path / "t.csv").open(newline="") as file:
        originals = {row["ssn"] for row in csv.DictReader(file)}
    for name, form in FORMS.items():
        values = [row[name] for row in made if row[name]]
        assert values and all(re.fullmatch(form, value) for value in values), name
    assert not originals & {row["ssn"] for row in made}
