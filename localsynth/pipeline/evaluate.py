"""Original, holdout and synthetic rows → runs/ID/report.html and report.json.

Reads the private table: the report is not covered by the guarantee, and says so at its top. Charges nothing, because it is not
meant to leave the machine. With `release` it leaves out everything that the original was read for.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from localsynth.errors import Cancelled, ConfigError
from localsynth.events import progress, stage_done, stage_started
from localsynth.pipeline.session import Session, certificate_of, check_base_model, check_product, trained_run
from localsynth.results.stages import EvaluateResult
from localsynth.schema.columns import Record, Schema, conform
from localsynth.system.cpu import default_threads
from localsynth.system.files import read_json, write_file, write_json
from localsynth.workspace.erasure_record import refuse_erased
from localsynth.workspace.paths import Workspace
from localsynth.workspace.runs import Run

if TYPE_CHECKING:
    from localsynth.evaluate.schema_losses import SchemaLosses

_SEED = 0
"""The same rows are chosen each time, so that the same table gives the same report."""

_MAX_SCORED = 250
"""Rows per side whose likelihood is computed; more would take minutes on two cores."""


def evaluate(session: Session) -> EvaluateResult:
    """Write the report on the newest run's rows. With `release`, the one that reads nothing private."""
    if not session.options.release:
        refuse_erased(session.workspace)
    return evaluate_run(session, trained_run(session))


def evaluate_run(session: Session, current: Run) -> EvaluateResult:
    """`evaluate` of a given run."""
    from localsynth.evaluate.report import render_report, report_document
    from localsynth.evaluate.tables import describe_synthetic
    from localsynth.store.synthetic import SyntheticStore

    workspace, options = session.workspace, session.options
    if current.record.sample is None:
        raise ConfigError(f"Run {current.id} has no rows yet.", f"Generate them: localsynth sample {workspace.root}")
    schema = current.effective.schema
    certificate = certificate_of(session, current)
    session.emit(stage_started("evaluate", session.seal))
    # Rows generated under conditions have a distribution that the user chose: they say nothing about the model.
    synthetic = list(SyntheticStore(workspace.synthetic_path).records(plain=True))
    if not synthetic:
        raise ConfigError(
            "Every row of the table was generated under conditions.",
            "Generate some without: localsynth sample WS --more N",
        )
    made = _made_units(synthetic, current, schema)
    synthetic = [{column.name: row[column.name] for column in schema.learned()} for row in synthetic]
    name = "report-release" if options.release else "report"
    figures: dict[str, Any]
    if options.release:
        figures = {"synthetic_only": describe_synthetic(synthetic, schema)}
    else:
        figures = _compare(session, current, schema, synthetic, made)
        if current.audit_path.exists():
            figures["audit"] = read_json(current.audit_path)
    page = current.directory / f"{name}.html"
    write_json(page.with_suffix(".json"), report_document(figures, certificate, options.release))
    write_file(page, render_report(figures, certificate, options.release))
    session.emit(stage_done("evaluate"))
    return EvaluateResult(
        run=current.id,
        release=options.release,
        report=str(page),
        report_json=str(page.with_suffix(".json")),
    )


def _made_units(rows: list[Record], current: Run, schema: Schema) -> list[list[Record]] | None:
    """The learned columns of the synthetic rows by unit, where they are sequences; the last unit may be cut, and is left out."""
    settings = current.settings
    if settings.data.sequence_by is None:
        return None
    names = [column.name for column in schema.learned()]
    groups = groupby(rows, key=lambda row: row[settings.privacy.unit])
    return [[{name: row[name] for name in names} for row in unit] for _, unit in groups][:-1]


def _compare(
    session: Session, current: Run, schema: Schema, synthetic: list[Record], made: list[list[Record]] | None
) -> dict[str, Any]:
    from localsynth.evaluate.schema_losses import SchemaLosses
    from localsynth.evaluate.tables import evaluate_tables
    from localsynth.llm.llama_cpp import Embedder

    options, wanted = session.options, session.config.evaluate
    target, quasi_identifiers = options.target or wanted.target, options.quasi_identifiers or wanted.quasi_identifiers
    columns = [column.name for column in schema.learned()]
    for name in [*(quasi_identifiers or []), *([target] if target else [])]:
        if name not in columns:
            raise ConfigError(f"There is no learned column {name!r}.", f"Columns: {', '.join(columns)}.")
    losses = SchemaLosses(schema)
    ours, others = (_units(session.workspace, split, schema, losses) for split in ("train", "holdout"))
    train, holdout = ([row for unit in units for row in unit] for units in (ours, others))

    reached, told = 0, ("", -1)

    def report(name: str, number: int, of: int, done: float) -> None:
        nonlocal reached, told
        reached = of
        if session.should_stop():
            raise Cancelled("Stopped during evaluate.", "`localsynth evaluate` begins it again.")
        # Each 5 % of a part in turn, also those that one batch of texts skips: how many rows there are is private.
        first, last = told[1] + 1 if told[0] == name else 0, math.floor(20 * done + 1e-9)
        for part in range(first, last + 1):
            session.emit(progress("evaluate", number, of + 1, f"{name}: {5 * part}%" if part else name or None))
            told = name, part

    def scoring(done: float) -> None:
        report("asking the model", reached, reached, done)

    def compared(embed: Callable[[Sequence[str]], NDArray[np.float32]] | None) -> dict[str, Any]:
        return evaluate_tables(
            train,
            holdout,
            synthetic,
            schema,
            target=target,
            quasi_identifiers=quasi_identifiers,
            seed=_SEED,
            progress=report,
            embed=embed,
            units=None if made is None else (ours, others, made),
        )

    if current.by_marginals:
        figures = compared(None)
        reason = "There is no language model: the rows were generated from DP marginals, which are public with them."
        figures["attacks_not_run"].append({"name": "membership (the model)", "reason": reason})
        figures["audit_reason"] = "The canary audit tests the training of a language model; this table was made without one."
    else:
        base = check_base_model(current).path
        check_product(current)
        with Embedder(base, default_threads()) as embedder:
            figures = compared(embedder.embed)
        figures["attacks"] += _attack_the_model(base, current, schema, train, holdout, scoring)
    figures["schema_losses"] = losses.figures()
    session.emit(progress("evaluate", 1, 1))
    return figures


def _attack_the_model(
    base: Path,
    current: Run,
    schema: Schema,
    train: list[Record],
    holdout: list[Record],
    report: Callable[[float], None],
) -> list[dict[str, Any]]:
    from localsynth.evaluate.attacks.membership import attack_by_scores
    from localsynth.evaluate.likelihood import likelihood_gain
    from localsynth.schema.column_split import ColumnSplit

    model = current.product_path
    members, others = (_sample(rows) for rows in (train, holdout))
    description, threads = current.description, default_threads()
    split = ColumnSplit(schema, hybrid=current.hybrid)
    conformed = ([found for row in rows if (found := conform(schema, row)) is not None] for rows in (members, others))
    members, others = ([split.with_lengths(row) for row in rows] for rows in conformed)
    scores = []
    for side, rows in enumerate((members, others)):

        def half(done: float, side: int = side) -> None:
            report((side + done) / 2)

        scores.append(likelihood_gain(base, model, split.schema, description, rows, threads, split.given, half))
    attacks = attack_by_scores(
        *scores,
        seed=_SEED,
        subject="the model",
        method=f"By the log-likelihood of the row under the trained model minus that under the base model, for {len(members)} "
        f"training rows and {len(others)} holdout rows.",
    )
    return [attack.to_json() for attack in attacks]


def _units(workspace: Workspace, split: Any, schema: Schema, losses: "SchemaLosses") -> list[list[Record]]:
    """The rows of each unit that the schema keeps, in their order and as they were; `losses` counts what it changed."""
    from localsynth.store.private import PrivateStore

    units = []
    with PrivateStore.open(workspace) as store:
        for _, rows in groupby(store.records(split, schema), key=itemgetter(0)):
            kept = [losses.count(record, conform(schema, record)) for _, record in rows]
            units.append([row for row in kept if row is not None])
    return [unit for unit in units if unit]


def _sample(rows: list[Record]) -> list[Record]:
    chosen = np.random.default_rng(_SEED).permutation(len(rows))[:_MAX_SCORED]
    return [rows[i] for i in chosen]
