"""Derived columns, from the file to the exported table: exact in every row, and never measured."""

import csv
import random
from decimal import Decimal

_DERIVED = '\nkind = "derived"\nformula = "{}"\ndecimals = {}\n'


def test_derived_columns_are_exact_in_every_row(localsynth, tmp_path):
    numbers = random.Random(1)
    rows = [(numbers.randint(1990, 2005), numbers.randint(1, 9), numbers.choice(["4.99", "19.99"])) for _ in range(300)]
    lines = [f"{year}-05-01,2024-02-01,{n},{price},{Decimal(price) * n},{2024 - year}" for year, n, price in rows]
    (tmp_path / "sales.csv").write_text("born,sold,n,price,total,age\n" + "\n".join(lines) + "\n")
    localsynth.ok("init", "ws", "--data", "sales.csv")
    config = tmp_path / "ws" / "localsynth.toml"
    text = config.read_text()
    head, _, _ = text.partition('[[schema.columns]]\nname = "total"')
    total = '[[schema.columns]]\nname = "total"' + _DERIVED.format("n * price", 2)
    age = '[[schema.columns]]\nname = "age"' + _DERIVED.format("year(sold) - year(born)", 0)
    config.write_text(head + total + age)
    localsynth.ok("rehearse", "ws", "--rows", 5)
    localsynth.ok("run", "ws", "--rows", 50, "--set", "privacy.epsilon=50", "--set", "evaluate.report=false")
    localsynth.ok("export-data", "ws", "--format", "csv", "--out", "made.csv")
    with (tmp_path / "made.csv").open(newline="") as file:
        made = list(csv.DictReader(file))
    complete = [row for row in made if all(row.values())]
    assert len(made) == 50 and complete
    for row in complete:
        assert Decimal(row["total"]) == Decimal(row["price"]) * int(row["n"])
        assert int(row["age"]) == int(row["sold"][:4]) - int(row["born"][:4])
    assert "total" not in (tmp_path / "ws" / "ledger.json").read_text()
    certificate = next((tmp_path / "ws" / "runs").glob("*/certificate.json"))
    localsynth.ok("verify", certificate, "--table", "made.csv")
    (tmp_path / "made.csv").write_text((tmp_path / "made.csv").read_text().replace(complete[0]["total"], "1.23", 1))
    assert localsynth("verify", certificate, "--table", "made.csv").code == 6
