"""The commands that read the synthetic rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from localsynth.cli.options import Workspace
from localsynth.cli.output import command
from localsynth.errors import ConfigError
from localsynth.presentation import table_text

app = typer.Typer()

FORMATS = ("csv", "parquet", "jsonl", "arrow", "excel", "spss", "stata", "duckdb")
"""What `export-data` writes."""

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""The names of the columns, and the rows."""


def _records(table: Table) -> list[dict[str, Any]]:
    names, rows = table
    return [dict(zip(names, row, strict=True)) for row in rows]


@command(
    app,
    example='localsynth query visits "select count(*) from synthetic"',
    show=lambda table: table_text(*table),
    data=_records,
)
def query(
    workspace: Workspace,
    sql: Annotated[str, typer.Argument(help="One SELECT over the table synthetic.")],
) -> Table:
    """Run read-only SQL over the synthetic rows."""
    from localsynth.store.synthetic import SyntheticStore
    from localsynth.workspace.paths import Workspace as Directory

    return SyntheticStore(Directory.open(workspace).synthetic_path).query(sql)


def _export_text(result: dict[str, Any]) -> str:
    tied = (
        f"{result['manifest']} ties them to the certificate."
        if result["manifest"]
        else "No manifest: the run has no certificate."
    )
    return f"Wrote {result['rows']:,} rows to {result['out']}. {tied}"


@command(app, name="export-data", example="localsynth export-data visits --format csv --out synthetic.csv", show=_export_text)
def export_data(
    workspace: Workspace,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    file_format: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "csv",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    for_spreadsheets: Annotated[
        bool, typer.Option("--for-spreadsheets", help="CSV only: put an apostrophe before texts that look like formulas.")
    ] = False,
) -> dict[str, Any]:
    """Write the synthetic rows to a file, and beside it a manifest that ties them to the certificate."""
    from localsynth.pipeline.export_table import export_table
    from localsynth.workspace.paths import Workspace as Directory

    if file_format not in FORMATS:
        raise ConfigError(f"--format {file_format!r} is not known.", f"Use one of: {', '.join(FORMATS)}.")
    return export_table(Directory.open(workspace), file_format, out, overwrite, for_spreadsheets)  # type: ignore[arg-type]
