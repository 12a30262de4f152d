"""Compares a run on a table without text with what DuckDB, pandas and NumPy take for the like.

    ours      ingest, train (marginals), export and sample, each a command of its own, without the report
    counting  the lower limit of reading: DuckDB reads the file and counts all pairs of columns, exactly and without privacy
    sampling  the alternative to ours: each column by itself with NumPy, as a pandas table, into a DuckDB file

The file's rows are repeated until there are enough. The workspace is deleted at the end.
"""

import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from localsynth.errors import DataError
from localsynth.events import Emit, note
from localsynth.schema.sql_conditions import literal
from localsynth.store.bulk import quoted

_STAGES = ("ingest", "train", "export", "sample")


def bench_table(source: Path, rows: int, emit: Emit) -> dict[str, Any]:
    """Measure once each; `source` is a CSV file with a header. Raises DataError."""
    with tempfile.TemporaryDirectory(prefix="localsynth-bench-") as directory:
        folder = Path(directory)
        table = folder / "table.csv"
        columns = _repeat(source, rows, table)
        emit(note(f"{rows:,} rows of {len(columns)} columns."))
        counting = _seconds(lambda: _count_pairs(table, columns))
        emit(note(f"DuckDB read them and counted all pairs in {counting:.1f} s."))
        sampling = _seconds(lambda: _sample_columns(table, folder / "independent.duckdb", rows))
        workspace = folder / "workspace"
        _localsynth("init", str(workspace), "--data", str(table))
        settings = workspace / "localsynth.toml"
        settings.write_text(settings.read_text().replace("confirmed = false", "confirmed = true"))
        ours: dict[str, float] = {}
        for stage in _STAGES:
            more = ["--rows", str(rows)] if stage == "sample" else []
            ours[stage] = _seconds(partial(_localsynth, stage, str(workspace), *more))
            emit(note(f"{stage}: {ours[stage]:.1f} s."))
    seconds = sum(ours.values())
    return {
        "rows": rows,
        "columns": len(columns),
        "seconds": seconds,
        "stages": ours,
        "counting_seconds": counting,
        "sampling_seconds": sampling,
        "ratio_counting": seconds / counting,
        "ratio_sampling": ours["sample"] / sampling,
        "rows_per_second": rows / ours["sample"],
        # Kilobytes on Linux; the largest of the commands.
        "peak_memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def _seconds(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _repeat(source: Path, rows: int, target: Path) -> list[str]:
    """Write `rows` rows, those of `source` again and again; returns the columns."""
    with duckdb.connect() as connection:
        try:
            connection.execute(f"CREATE TABLE one AS SELECT * FROM read_csv({literal(str(source))}, all_varchar = true)")
        except duckdb.Error:
            raise DataError(f"DuckDB cannot read {source}.", "Give a CSV file with a header.") from None
        counted = connection.execute("SELECT count(*) FROM one").fetchone()
        times = -(-rows // max(1, counted[0] if counted else 0))
        connection.execute(
            f"COPY (SELECT one.* FROM one, range({times}) LIMIT {rows}) TO {literal(str(target))} (FORMAT csv, HEADER)"
        )
        return [str(row[0]) for row in connection.execute("DESCRIBE one").fetchall()]


def _count_pairs(table: Path, columns: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE original AS SELECT * FROM read_csv({literal(str(table))})")
        for pair in itertools.combinations(map(quoted, columns), 2):
            connection.execute(f"SELECT {', '.join(pair)}, count(*) FROM original GROUP BY ALL").fetchnumpy()


def _sample_columns(table: Path, target: Path, rows: int) -> None:
    """Sample each column by itself from the values of the first rows, which are few enough to be read in no time."""
    first, random = pd.read_csv(table, nrows=10_000), np.random.default_rng(1)
    sampled = pd.DataFrame({name: random.choice(first[name].to_numpy(), rows) for name in first.columns})
    with duckdb.connect(str(target)) as connection:
        connection.register("sampled", sampled)
        connection.execute("CREATE TABLE synthetic AS SELECT * FROM sampled")


def _localsynth(*arguments: str) -> None:
    command = [sys.executable, "-m", "localsynth.start", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"localsynth {arguments[0]} failed:\n{done.stderr[-2000:]}", "Run it by itself to see why.")
