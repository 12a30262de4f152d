"""A table that is handed on is tied to its certificate by a manifest, and rows by marginals can be sampled again."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from localsynth.errors import DataError
from localsynth.pipeline.export import export
from localsynth.pipeline.export_table import export_table
from localsynth.pipeline.ingest import ingest
from localsynth.pipeline.sample import sample
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import train
from localsynth.privacy.manifest import manifest_path
from localsynth.privacy.signing import sign
from localsynth.schema.columns import Schema
from localsynth.store.table_file import hash_table
from localsynth.system.canonical_json import sha256_of
from localsynth.system.files import file_sha256, read_json, write_json
from localsynth.verification.file import verify_file
from localsynth.workspace.runs import latest_run

ROWS = 30


@pytest.fixture
def finished(make_session: Any, request: pytest.FixtureRequest) -> Session:
    session: Session = make_session(synthesizer="auto", rows=ROWS, sign=getattr(request, "param", True))
    ingest(session)
    train(session)
    export(session)
    sample(session)
    return session


@pytest.fixture
def table(finished: Session, tmp_path: Path) -> Path:
    out = tmp_path / "rows.csv"
    assert export_table(finished.workspace, "csv", out)["manifest"] == str(manifest_path(out))
    return out


def certificate(session: Session) -> Path:
    run = latest_run(session.workspace)
    assert run is not None
    return run.certificate_path


def found(session: Session, table: Path) -> dict[str, tuple[str, str]]:
    """Status and text of what `verify` says of the table; nothing else may fail."""
    report = verify_file(certificate(session), None, table)
    own = {each["name"]: (each["status"], each["text"]) for each in report["findings"] if each["name"] in ("table", "rows")}
    failed = {each["name"] for each in report["findings"] if each["status"] == "failed"}
    assert failed <= set(own) and report["valid"] == (not failed)
    return own


def lines(table: Path) -> list[list[str]]:
    with table.open(newline="") as file:
        return list(csv.reader(file))


def write(table: Path, rows: list[list[str]], **options: Any) -> None:
    with table.open("w", newline="") as file:
        csv.writer(file, **options).writerows(rows)


def forge(table: Path, schema: Schema, **changed: Any) -> dict[str, Any]:
    """The manifest, made to fit the table as it is now, with a signature that no longer holds."""
    manifest = read_json(manifest_path(table))
    content = hash_table(table, schema)
    manifest |= {"sha256": file_sha256(table), "rows": content.rows, "rows_sha256": content.sha256, **changed}
    write_json(manifest_path(table), manifest)
    return dict(manifest)


@pytest.mark.parametrize(
    ("kind", "needs"),
    [
        *(("parquet", "duckdb"), ("jsonl", "json"), ("arrow", "pyarrow"), ("duckdb", "duckdb")),
        *(("excel", "xlsxwriter"), ("spss", "pyreadstat"), ("stata", "pyreadstat")),
    ],
)
def test_every_format_is_tied_and_sampled_again(finished: Session, tmp_path: Path, kind: Any, needs: str) -> None:
    pytest.importorskip(needs, reason="needs the extra formats")
    out = tmp_path / "rows.out"
    assert export_table(finished.workspace, kind, out)["rows"] == ROWS
    assert {status for status, _ in found(finished, out).values()} == {"ok"} and set(found(finished, out)) == {"table", "rows"}


def test_every_format_is_tied_to_the_certificate(finished: Session, tmp_path: Path) -> None:
    hashes = set()
    for kind in ("csv", "parquet", "jsonl"):
        out = tmp_path / f"rows.{kind}"
        export_table(finished.workspace, kind, out)  # type: ignore[arg-type]
        said = found(finished, out)
        assert said["table"] == ("ok", f"rows.{kind} is the table that was exported with this certificate, {ROWS} rows.")
        assert said["rows"] == ("ok", f"Sampled again from marginals.json: all {ROWS} rows match.")
        manifest = read_json(manifest_path(out))
        assert manifest["certificate_sha256"] == sha256_of(read_json(certificate(finished))) and manifest["signature"]
        hashes.add(manifest["rows_sha256"])
    assert len(hashes) == 1, "of the content, not of the format"
    spreadsheet = tmp_path / "sheet.csv"
    export_table(finished.workspace, "csv", spreadsheet, for_spreadsheets=True)
    assert [status for status, _ in found(finished, spreadsheet).values()] == ["ok", "ok"]


def test_a_changed_table_fails_and_no_value_is_quoted(finished: Session, table: Path) -> None:
    honest = lines(table)
    cell = [list(row) for row in honest]
    cell[7][2] = "98765"
    swapped = [honest[0], honest[2], honest[1], *honest[3:]]
    renamed = [["who", "sort", "n"], *honest[1:]]
    for rows, text in (
        (cell, "does not hold the rows"),
        (honest[:-1], f"has {ROWS - 1} rows, and {ROWS} were exported"),
        (swapped, "or not in their order"),
        (renamed, "does not hold the rows"),
        ([row[:-1] for row in honest], "has 2 columns"),
        ([*honest, ["1"]], "different lengths"),
    ):
        write(table, rows)
        said = found(finished, table)
        assert said["table"][0] == "failed" and text in said["table"][1], said
        assert "98765" not in str(said) and "rows" not in said
    table.write_bytes(b"\xff\xfe\0\0")
    assert found(finished, table)["table"][0] == "failed"


def test_a_reformatted_csv_holds_the_same_rows(finished: Session, table: Path) -> None:
    write(table, lines(table), delimiter=";", quoting=csv.QUOTE_ALL)
    said = found(finished, table)
    assert said["table"][0] == "ok" and f"holds the {ROWS} rows" in said["table"][1] and "written again" in said["table"][1]
    assert said["rows"][0] == "ok"


def test_a_manifest_of_another_table_or_certificate_fails(finished: Session, table: Path, tmp_path: Path) -> None:
    schema = Schema.model_validate(read_json(certificate(finished))["schema"])
    path = manifest_path(table)
    honest = path.read_bytes()
    finished.options = type(finished.options)(more=5)
    sample(finished)
    other = tmp_path / "more.csv"
    export_table(finished.workspace, "csv", other)
    assert found(finished, other)["rows"][1].endswith(f"all {ROWS + 5} rows match.")
    path.write_bytes(manifest_path(other).read_bytes())
    assert "were exported" in found(finished, table)["table"][1]
    path.write_bytes(honest)
    manifest = read_json(path)
    forge(table, schema, run="another")
    assert found(finished, table)["table"] == ("failed", f"{path.name} was changed since it was signed.")
    forge(table, schema, signature=None)
    assert "is not signed, though the certificate is" in found(finished, table)["table"][1]
    unsigned = {key: value for key, value in manifest.items() if key != "signature"}
    write_json(path, sign(unsigned, Ed25519PrivateKey.generate()))
    assert "another key" in found(finished, table)["table"][1]
    path.write_bytes(honest)
    assert found(finished, table)["table"][0] == "ok"
    finished.options = type(finished.options)(rows=ROWS, again=True)
    ingest(finished)
    train(finished)
    export(finished)
    assert "belongs to another certificate" in found(finished, table)["table"][1]


@pytest.mark.parametrize("finished", [False], indirect=True)
def test_rows_sampled_again_need_nobodys_word(finished: Session, table: Path) -> None:
    """The manifest of an unsigned certificate can be forged; the rows that the marginals give cannot."""
    assert "author is unknown" in found(finished, table)["table"][1]
    schema = Schema.model_validate(read_json(certificate(finished))["schema"])
    rows = lines(table)
    rows[7][1] = "b" if rows[7][1] == "a" else "a"
    write(table, rows)
    forge(table, schema)
    said = found(finished, table)
    assert said["table"][0] == "not checked" and said["rows"] == (
        "failed",
        "Sampled again from marginals.json: row 7 is the first that differs.",
    )
    # Rows that were added, with a job for them or without.
    write(table, [*rows[:7], *lines(table)[8:], rows[1]])
    assert forge(table, schema)["rows"] == ROWS
    assert found(finished, table)["rows"][0] == "failed"
    job = {"seed": 0, "first_row": 0, "rows": ROWS, "asked": {}}
    odd = [
        {"seed": "x"},
        {"seed": -1},
        {"rows": 1.5},
        {"rows": None},
        {"asked": "where"},
        {"asked": {"where": 3}},
        {"first_row": []},
    ]
    for jobs in ([], [{}], [5], {"a": 1}, *([job | change] for change in odd)):
        forge(table, schema, jobs=jobs)
        assert "failed" in {status for status, _ in found(finished, table).values()}, jobs


def test_rows_under_conditions_are_sampled_again(finished: Session, tmp_path: Path) -> None:
    finished.options = type(finished.options)(more=6, where="kind = 'a'")
    sample(finished)
    finished.options = type(finished.options)(more=6, balance="kind")
    sample(finished)
    out = tmp_path / "rows.csv"
    export_table(finished.workspace, "csv", out)
    assert f"all {ROWS + 12} rows match. 12 of them were made under conditions" in found(finished, out)["rows"][1]
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("kind\na\nb\n")
    finished.options = type(finished.options)(seeds=str(seeds))
    sample(finished)
    export_table(finished.workspace, "csv", out, overwrite=True)
    said = found(finished, out)
    assert said["table"][0] == "ok" and said["rows"][0] == "not checked" and "--seeds" in said["rows"][1]


def test_a_table_without_manifest_or_marginals_is_not_checked(finished: Session, table: Path) -> None:
    marginals = certificate(finished).parent / "marginals.json"
    marginals.rename(marginals.with_name("elsewhere.json"))
    said = found(finished, table)
    assert said["table"][0] == "ok" and said["rows"][0] == "not checked"
    manifest_path(table).write_text(json.dumps({"format": 1}))
    assert found(finished, table)["table"] == ("failed", f"{manifest_path(table)} is no manifest of a table.")
    manifest_path(table).unlink()
    assert found(finished, table)["table"][0] == "not checked" and "sender's word" in found(finished, table)["table"][1]
    with pytest.raises(DataError, match="no file"):
        found(finished, table.with_name("none.csv"))


def test_without_a_certificate_there_is_no_manifest(finished: Session, table: Path) -> None:
    certificate(finished).write_text("{}")
    assert export_table(finished.workspace, "csv", table, overwrite=True)["manifest"] is None
    assert table.exists() and not manifest_path(table).exists(), "an earlier one would be of another table"
