"""The commands that make synthetic rows: `init`, `plan`, each stage, and `run`, which is all of them."""

import csv
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from localsynth.cli.in_worker import Options, in_worker, send, worker_command
from localsynth.cli.options import (
    Again,
    Force,
    MaxUnits,
    NoSign,
    PassphraseFd,
    ReadAgain,
    RequireSeal,
    Rows,
    Workspace,
)
from localsynth.cli.output import command
from localsynth.errors import ConfigError
from localsynth.presentation import audit_text, plan_text, rehearsal_text, sweep_text
from localsynth.results.audit import AuditResult
from localsynth.results.plans import Plan, RehearsalResult, Sweep
from localsynth.results.stages import (
    CountTextsResult,
    DemoResult,
    EvaluateResult,
    ExportResult,
    IngestResult,
    RunResult,
    SampleResult,
    Summary,
    TrainResult,
)

app = typer.Typer()

Result = dict[str, Any]


_LOCAL = ("require_seal", "passphrase_fd")
"""Options that a command does not have which opens no original rows."""


def _list_of_columns(text: str | None) -> list[str] | None:
    return None if text is None else next(csv.reader([text], skipinitialspace=True))


def run_text(result: Summary, csv_path: str | None = None) -> str:
    """`run`'s result for a person."""
    workspace, certificate = result.workspace, result.certificate
    figure = f"guaranteed epsilon {result.epsilon_guaranteed:g} of {result.epsilon_target:g}"
    lines = [
        f"\n{result.rows:,} synthetic rows in {result.synthetic}",
        f"  privacy      {figure} (spent {result.epsilon_spent:.3f}), delta {result.delta:.1e}",
        f"  model        {result.model}",
        f"  certificate  {certificate}",
    ]
    if csv_path is not None:
        lines.append(f"  as CSV       {csv_path}")
    if result.report:
        lines.append(f"  report       {result.report} (private: it reads the original table)")
    lines += [
        "\nNext:",
        f"  localsynth verify {certificate}",
        f'  localsynth query {workspace} "select * from synthetic limit 10"',
    ]
    if csv_path is None:
        lines.append(f"  localsynth export-data {workspace} --format csv --out synthetic.csv")
    return "\n".join(lines)


def _demo_text(result: DemoResult) -> str:
    rows = ("  " + " | ".join(f"{name}: {value}" for name, value in row.items()) for row in result.first_rows)
    return "\n".join([run_text(result, result.csv), "\nThe first rows, all synthetic:\n", *rows])


@command(app, example="localsynth demo", show=_demo_text)
def demo(
    workspace: Annotated[Path, typer.Argument(metavar="[WS]", help="Directory of the demo's workspace.")] = Path(
        "localsynth-demo"
    ),
) -> DemoResult:
    """Run the whole pipeline on a bundled table of random rows, on the CPU. Stop it with ctrl-C; start it again to resume."""
    from localsynth.example.visits import prepare_demo
    from localsynth.pipeline.export_table import export_table
    from localsynth.store.synthetic import SyntheticStore
    from localsynth.workspace.paths import Workspace as Directory

    print(prepare_demo(workspace), file=sys.stderr)
    result = _finished_demo(workspace) or in_worker(Summary, "run", workspace, None)
    store, out = SyntheticStore(workspace / "synthetic.duckdb"), workspace / "synthetic.csv"
    export_table(Directory.open(workspace), "csv", out, overwrite=True)
    columns, rows = store.query("select * from synthetic limit 5")
    return DemoResult(**vars(result), csv=str(out), first_rows=[dict(zip(columns, row, strict=True)) for row in rows])


def _finished_demo(workspace: Path) -> Summary | None:
    from localsynth.config import load_config
    from localsynth.pipeline.run import summary
    from localsynth.workspace.paths import Workspace as Directory
    from localsynth.workspace.runs import latest_run

    directory = Directory.open(workspace)
    latest = latest_run(directory)
    return summary(directory, load_config(directory.config_path), latest) if latest is not None and latest.finished else None


def _init_text(result: Result) -> str:
    workspace, width = result["workspace"], max(len(column["name"]) for column in result["columns"])
    return "\n".join(
        [
            f"Made {workspace}. The inferred columns:",
            *(
                f"  {column['name']:<{width}}  {column['kind']:<11} {column.get('format', '')}".rstrip()
                for column in result["columns"]
            ),
            f"\nCheck and correct {result['config']}, then:\n  localsynth plan {workspace}\n  localsynth run {workspace}",
        ]
    )


@command(app, example="localsynth init visits --data visits.csv", show=_init_text)
def init(
    workspace: Workspace,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="The original table: CSV, TSV, JSON lines, Parquet (also a folder of parts), Arrow, DuckDB, SQLite, Excel, "
            "SPSS, SAS or Stata; also as .zip or .zst.",
        ),
    ],
    file_format: Annotated[
        str, typer.Option("--format", help="auto, csv, tsv, jsonl, parquet, arrow, duckdb, sqlite, excel, spss, sas or stata.")
    ] = "auto",
    table: Annotated[
        str | None, typer.Option("--table", help="The table inside a DuckDB or SQLite file, or the sheet of a workbook.")
    ] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="The text encoding of a CSV or TSV file.")] = "utf-8",
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B,C", help="Use only these columns (names separated by commas).")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option("--missing", help='A string that means "no value", as --missing "?"; may be repeated.')
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line of a CSV or TSV file names the columns; inferred if not given.",
        ),
    ] = None,
    quote: Annotated[
        str | None, typer.Option("--quote", help="The sign around fields of a CSV or TSV file; '' if quotes are only characters.")
    ] = None,
    comment: Annotated[
        str | None, typer.Option("--comment", metavar="SIGN", help="Skip lines of a CSV or TSV file that begin with this.")
    ] = None,
    skip_lines: Annotated[
        int | None,
        typer.Option("--skip-lines", min=0, help="Lines before the names of the columns in a CSV or TSV file or a sheet."),
    ] = None,
    bad_rows: Annotated[
        str | None,
        typer.Option("--bad-rows", metavar="WHAT", help="drop: leave out rows that cannot be read; refuse if not given."),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key of the original rows with a passphrase; asks for it.")
    ] = False,
    passphrase_fd: PassphraseFd = None,
    require_seal: RequireSeal = None,
) -> Result:
    """Make a workspace with a schema inferred from the table's rows. Check the schema before you run."""
    markers = ["", *missing] if missing is not None else None
    given: dict[str, Any] = {"table": table, "columns": _list_of_columns(columns), "missing": markers, "header": header}
    given |= {"quote": quote, "comment": comment, "skip_lines": skip_lines, "bad_rows": bad_rows}
    source: dict[str, Any] = {"source": str(data), "format": file_format, "encoding": encoding}
    source |= {key: value for key, value in given.items() if value is not None}
    request: dict[str, Any] = {"workspace": str(workspace), "data": source}
    if passphrase or passphrase_fd is not None:
        from localsynth.cli.prompt import ask_passphrase

        request["passphrase"] = ask_passphrase(str(workspace), passphrase_fd, new=True)
    return send(dict, "init", request, require_seal)


def _plan_text(result: Plan | Sweep) -> str:
    return sweep_text(result) if isinstance(result, Sweep) else plan_text(result)


@worker_command(app, Plan | Sweep, without=_LOCAL, example="localsynth plan visits --set privacy.epsilon=8", show=_plan_text)
def plan(
    rows: Rows = None,
    max_units: MaxUnits = None,
    force: Force = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Compare what epsilons from 0.5 to 16 buy; takes some ten seconds.")
    ] = False,
) -> Options:
    """Estimate what a run would spend and how long it would take. Spends nothing."""
    return {"rows": rows, "max_units": max_units, "force": force, "sweep": sweep}


@worker_command(app, RehearsalResult, without=("passphrase_fd",), example="localsynth rehearse visits", show=rehearsal_text)
def rehearse(
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rows to generate; 40 if not given.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps to take; 3 if not given.")] = None,
    max_units: MaxUnits = None,
    force: Force = False,
) -> Options:
    """Run the pipeline on random rows of the schema, to measure time and memory. Spends nothing, reads nothing private."""
    return {"rows": rows, "max_units": max_units, "force": force, "rehearsal_steps": steps}


@worker_command(
    app,
    IngestResult,
    example="localsynth ingest visits",
    show=lambda result: (
        f"Ingested about {result.units:,} units ({result.units_origin}), {result.training_units:,} of them to train on."
    ),
)
def ingest(max_units: MaxUnits = None, again: ReadAgain = False) -> Options:
    """Read the table into the encrypted private store, and measure the bounds and lists that the schema leaves open."""
    return {"max_units": max_units, "again": again}


def _train_text(result: TrainResult) -> str:
    what = f"Measured {result.steps} noisy tables" if result.synthesizer == "marginals" else f"Trained {result.steps} steps"
    return f"{what}. Spent so far: epsilon {result.epsilon:.3f}."


@worker_command(app, TrainResult, example="localsynth train visits", show=_train_text)
def train(force: Force = False, again: Again = False) -> Options:
    """Learn from the ingested table under differential privacy: marginals, and for text a fine-tuned base model."""
    return {"force": force, "again": again}


@worker_command(
    app,
    ExportResult,
    without=_LOCAL,
    example="localsynth export visits",
    show=lambda done: f"Model: {done.path} ({done.size_bytes / 1e6:.1f} MB, {done.quantization or 'marginals'})",
)
def export(no_sign: NoSign = False) -> Options:
    """Merge the adapter into the base model, quantize and verify it, and write the certificate."""
    return {"sign": not no_sign}


def _count_texts_text(result: CountTextsResult) -> str:
    if not result.counts_texts:
        return "Nothing is counted in this run."
    return f"Measured the token histogram; {result.tokens} tokens get a logit bias."


@worker_command(app, CountTextsResult, name="count-texts", example="localsynth count-texts visits", show=_count_texts_text)
def count_texts(no_sign: NoSign = False) -> Options:
    """Measure a noisy token histogram of the original texts (text_counts.share)."""
    return {"sign": not no_sign}


@worker_command(
    app,
    SampleResult,
    without=_LOCAL,
    example="localsynth sample visits --more 500 --where \"diagnosis = 'asthma' AND age >= 65\"",
    show=lambda result: f"{result.new_rows:,} rows generated; the table has {result.rows:,}.",
)
def sample(
    rows: Rows = None,
    more: Annotated[int | None, typer.Option("--more", min=1, help="Add this many rows.")] = None,
    where: Annotated[str | None, typer.Option("--where", metavar="SQL", help="Every new row meets this condition.")] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            "--balance",
            metavar="COLUMN[=VALUE:SHARE,...]",
            help="Distribute new rows over this column's values, evenly or in the given shares.",
        ),
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option("--seeds", metavar="FILE", help="CSV with values for some columns; one row is generated per line."),
    ] = None,
) -> Options:
    """Generate synthetic rows from the finished model. Costs no privacy."""
    if rows is not None and more is not None:
        raise ConfigError("--rows and --more exclude each other.", "--rows N: N rows at the end; --more N: N rows added.")
    file = str(seeds) if seeds is not None else None
    return {"rows": rows, "more": more, "where": where, "balance": balance, "seeds": file}


def _evaluate_text(result: EvaluateResult) -> str:
    if result.release:
        return f"Report: {result.report}"
    return (
        f"Report: {result.report}\n"
        "It reads the original table and is not covered by the guarantee. For a report to publish: localsynth evaluate --release"
    )


@worker_command(app, EvaluateResult, example="localsynth evaluate visits --target admitted", show=_evaluate_text)
def evaluate(
    target: Annotated[str | None, typer.Option("--target", help="The column to predict; chosen if not given.")] = None,
    quasi_identifiers: Annotated[
        str | None,
        typer.Option(
            "--quasi-identifiers", metavar="A,B,C", help="Columns that others may know of a person; chosen if not given."
        ),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Write a second report, to publish: it reads no private data.")
    ] = False,
) -> Options:
    """Compare the synthetic rows with the original and attack them. The report is private: it reads the original."""
    return {"target": target, "quasi_identifiers": _list_of_columns(quasi_identifiers), "release": release}


@worker_command(
    app,
    AuditResult,
    without=("passphrase_fd",),
    example="localsynth audit visits",
    show=audit_text,
    failed=lambda result: result.status == "failed",
)
def audit(
    canaries: Annotated[
        int | None,
        typer.Option("--canaries", metavar="K", min=1, help="Random units to plant; enough to test the claim if not given."),
    ] = None,
    search: Annotated[
        int,
        typer.Option("--search", metavar="N", min=0, help="Rows to generate and search for the canaries' texts; 0: none."),
    ] = 100,
) -> Options:
    """Empirically audit the guarantee: train on random canaries with this run's settings and run a membership attack."""
    return {"canaries": canaries, "search": search}


@worker_command(app, RunResult, example="localsynth run visits --rows 1000", show=run_text)
def run(
    rows: Rows = None, max_units: MaxUnits = None, force: Force = False, again: Again = False, no_sign: NoSign = False
) -> Options:
    """Ingest, train, export, sample and evaluate. Stopped, it resumes when you start it again."""
    return {"rows": rows, "max_units": max_units, "force": force, "again": again, "sign": not no_sign}
