"""Payments of accounts as sequences, through the command line: order, fresh accounts, a killed job, conditions refused."""

import datetime as dt
import json
import random
import re
from itertools import pairwise

from localsynth.errors import Cancelled
from localsynth.marginals.file import read_marginals
from localsynth.marginals.sample_sequences import sample_rows
from localsynth.sample.surrogates import Surrogates
from localsynth.sample.tabular import generate_from_marginals
from localsynth.store.synthetic import Origin, SyntheticStore
from localsynth.system.files import read_json
from localsynth.workspace.effective_schema import finished_ingest
from localsynth.workspace.paths import Workspace

NEXT = {"salary": "rent", "rent": "card", "card": "salary"}
SQL = "select account, day, what from synthetic"
SEQUENCE = "select account, what, lag(what) over (partition by account order by payment) as before from synthetic"


def bank(path):
    rng = random.Random(0)
    rows = []
    for account in range(3000):
        what, day = rng.choice(list(NEXT)), dt.date(2024, 1, 1) + dt.timedelta(days=rng.randint(0, 300))
        for _ in range(rng.randint(1, 5)):
            rows.append(f"T{len(rows)},DE{account:05d}planted,{day},{what}\n")
            what, day = NEXT[what], day + dt.timedelta(days=rng.choice([1, 7]))
    rng.shuffle(rows)
    path.write_text("payment,account,day,what\n" + "".join(rows))


def test_from_payments_to_payments(localsynth, tmp_path):
    bank(tmp_path / "bank.csv")
    localsynth.ok("init", "ws", "--data", "bank.csv")
    path = tmp_path / "ws" / "localsynth.toml"
    text = path.read_text()
    for name in ("payment", "account"):
        text = re.sub(f'name = "{name}"\nkind = "[a-z]+"', f'name = "{name}"\nkind = "identifier"', text)
    text = text.replace('unit = "row"', 'unit = "account"\nmax_rows_per_unit = 4')
    path.write_text(text.replace("[privacy]", 'sequence_by = "day"\n\n[privacy]', 1))
    assert localsynth.ok("plan", "ws", "--json").json()["synthesizer"] == "marginals"
    rehearsed = localsynth.ok("rehearse", "ws", "--rows", 30, "--json").json()
    assert rehearsed["rehearsed"]["rows"] == 30

    result = localsynth.ok("run", "ws", "--rows", 900, "--json").json()
    assert result["rows"] == 900
    rows = localsynth.ok("query", "ws", SQL, "--json").json()
    accounts = [row["account"] for row in rows]
    assert accounts == sorted(accounts) and set(accounts) == set(range(1, accounts[-1] + 1))
    assert max(accounts.count(account) for account in set(accounts)) <= 4
    for one, two in pairwise(rows):
        assert one["account"] != two["account"] or one["day"] <= two["day"]
    pairs = [row for row in localsynth.ok("query", "ws", SEQUENCE, "--json").json() if row["before"]]
    # `other` of the measured list, which noise may give a few rows, is followed by nothing right.
    assert len(pairs) > 300 and sum(NEXT.get(row["before"]) == row["what"] for row in pairs) > 0.9 * len(pairs)

    assert "in the order of 'day'" in read_json(tmp_path / result["certificate"])["summary"]
    verified = localsynth.ok("verify", result["certificate"], "--json").json()
    assert verified["valid"] and any(f["name"] == "marginals" and f["status"] == "ok" for f in verified["findings"])
    report = localsynth.ok("evaluate", "ws", "--json").json()
    sequences = json.loads((tmp_path / report["report_json"]).read_text())["figures"]["sequences"]
    assert [entry["column"] for entry in sequences["columns"]] == ["day", "what"]
    assert "<h2>Sequences</h2>" in (tmp_path / report["report"]).read_text()
    for option in (["--where", "what = 'rent'"], ["--balance", "what"]):
        refused = localsynth("sample", "ws", "--more", 5, *option)
        assert refused.code == 2 and "cannot be generated under conditions" in refused.err

    # More rows continue the sequence that the last row may have cut; another seed begins with accounts of its own.
    localsynth.ok("sample", "ws", "--more", 100)
    localsynth.ok("sample", "ws", "--more", 50, "--set", "sample.seed=5")
    accounts = [row["account"] for row in localsynth.ok("query", "ws", SQL, "--json").json()]
    assert len(accounts) == 1050 and set(accounts[:1000]).isdisjoint(accounts[1000:]) and accounts == sorted(accounts)
    interrupted(tmp_path / result["model"], finished_ingest(Workspace(tmp_path / "ws")).effective.schema, tmp_path)


def interrupted(model, schema, directory):
    """A job stopped again and again has the rows of one that was not."""
    origin = Origin("r", "ab", 0, 1.0, 1e-6, {}, {})
    stores = [SyntheticStore(directory / f"{name}.duckdb") for name in ("whole", "parts")]
    for store, stop in zip(stores, (False, True), strict=True):
        store.create_table(schema)
        while store.row_count() < 5000:
            try:
                job = store.open_job(origin, total=5000)
                generate_from_marginals(
                    model, Surrogates(schema, 0, "account"), store, job, lambda i: {}, lambda e: None, lambda stop=stop: stop
                )
            except Cancelled:
                pass
    whole, parts = (list(store.records()) for store in stores)
    assert whole == parts and len(whole) == 5000
    sampled = [row for _, row in zip(whole, sample_rows(read_marginals(model), 0), strict=False)]
    assert [(unit + 1, row["what"]) for unit, row in sampled] == [(row["account"], row["what"]) for row in whole]
