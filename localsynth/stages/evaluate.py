"""Original, holdout and synthetic rows → runs/ID/report.html and report.json.

Reads the private table: the report is not covered by the guarantee, and says so on its face. Charges nothing, because nothing of
it is meant to leave the machine; `release` leaves out all that the original was read for.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from localsynth.base_models import find_base_model
from localsynth.erasure import refuse_erased
from localsynth.errors import ConfigError, IntegrityError
from localsynth.runs import Run
from localsynth.schema import Record, Schema, conform
from localsynth.stages.session import Session, trained_run
from localsynth.stages.table import effective_of
from localsynth.workspace import Workspace, read_json, write_file, write_json

if TYPE_CHECKING:
    from localsynth.codec import Encoded

__all__ = ["evaluate"]

_SEED = 0
"""The same rows are looked at each time, so that the same table gives the same report."""

_ASKED = 250
"""Rows a side whose likelihood the models are asked for: some minutes on two cores would be too many."""


def evaluate(session: Session) -> dict[str, Any]:
    """Write the report on the newest run's rows. With `release`, the one that reads nothing private."""
    from localsynth.evaluate.report import render_report, report_document
    from localsynth.evaluate.tables import describe_synthetic
    from localsynth.store.synthetic import SyntheticStore

    workspace, options = session.workspace, session.options
    if not options.release:
        refuse_erased(workspace)
    current = trained_run(session)
    if not current.get("sample"):
        raise ConfigError(f"Run {current.id} has no rows yet.", f"Draw them: localsynth sample {workspace.root}")
    schema = effective_of(current["table"]).schema
    certificate = read_json(current.certificate_path)
    session.emit({"kind": "stage_started", "stage": "evaluate", "seal": session.seal})
    # Rows drawn under conditions are as the user wanted them, and say nothing of how well the model learned.
    synthetic = list(SyntheticStore(workspace.synthetic_path).records(plain=True))
    if not synthetic:
        raise ConfigError(
            "Every row of the table was drawn under conditions.", "Draw some without: localsynth sample WS --more N"
        )
    synthetic = [{column.name: row[column.name] for column in schema.learned()} for row in synthetic]
    name = "report-release" if options.release else "report"
    figures: dict[str, Any]
    if options.release:
        figures = {"synthetic_only": describe_synthetic(synthetic, schema)}
    else:
        figures = _compare(session, schema, synthetic)
    page = current.directory / f"{name}.html"
    write_json(page.with_suffix(".json"), report_document(figures, certificate, options.release))
    write_file(page, render_report(figures, certificate, options.release))
    session.emit({"kind": "stage_done", "stage": "evaluate"})
    return {"stage": "evaluate", "run": current.id, "report": str(page), "report_json": str(page.with_suffix(".json"))}


def _compare(session: Session, schema: Schema, synthetic: list[Record]) -> dict[str, Any]:
    from localsynth.evaluate.tables import evaluate_tables
    from localsynth.llama import Embedder

    options, current = session.options, trained_run(session)
    columns = [column.name for column in schema.learned()]
    for name in [*(options.quasi_identifiers or []), *([options.target] if options.target else [])]:
        if name not in columns:
            raise ConfigError(f"There is no learned column {name!r}.", f"Columns: {', '.join(columns)}.")
    train, holdout = (_rows(session.workspace, split, schema) for split in ("train", "holdout"))

    def progress(name: str, number: int, of: int) -> None:
        if session.should_stop():
            from localsynth.errors import Cancelled

            raise Cancelled("Stopped during evaluate.", "`localsynth evaluate` begins it again.")
        session.emit({"kind": "progress", "stage": "evaluate", "step": number, "steps": of + 1})

    def compared(embed: Callable[[Sequence[str]], NDArray[np.float32]] | None) -> dict[str, Any]:
        return evaluate_tables(
            train,
            holdout,
            synthetic,
            schema,
            target=options.target,
            quasi_identifiers=options.quasi_identifiers,
            seed=_SEED,
            progress=progress,
            embed=embed,
        )

    if current.by_marginals:
        figures = compared(None)
    else:
        base = find_base_model(current["settings"]["train"]["model"]).path
        with Embedder(base) as embedder:
            figures = compared(embedder.embed)
        figures["attacks"] += _ask_the_model(session, base, current, schema, train, holdout)
    session.emit({"kind": "progress", "stage": "evaluate", "step": 1, "steps": 1})
    return figures


def _ask_the_model(
    session: Session, base: Path, current: Run, schema: Schema, train: list[Record], holdout: list[Record]
) -> list[dict[str, Any]]:
    from localsynth.evaluate.attacks.membership import attack_by_scores

    model = current.product_path
    if not model.is_file():
        raise IntegrityError(f"{model} is missing.", f"Make it again: localsynth export {session.workspace.root}")
    members, others = (_sample(rows) for rows in (train, holdout))
    scores = [_gain(base, current, schema, session.config.data.description, rows) for rows in (members, others)]
    attacks = attack_by_scores(
        *scores,
        seed=_SEED,
        subject="the model",
        method=f"By how much likelier the trained model finds the row than the base model does, for {len(members)} rows that "
        f"were trained on and {len(others)} holdout rows.",
    )
    return [attack.to_json() for attack in attacks]


def _rows(workspace: Workspace, split: Any, schema: Schema) -> list[Record]:
    from localsynth.store.private import PrivateStore

    with PrivateStore.open(workspace) as store:
        found = (conform(schema, record) for _, record in store.records(split, schema))
        return [record for record in found if record is not None]


def _sample(rows: list[Record]) -> list[Record]:
    chosen = np.random.default_rng(_SEED).permutation(len(rows))[:_ASKED]
    return [rows[i] for i in chosen]


def _gain(base: Path, current: Run, schema: Schema, description: str, rows: list[Record]) -> NDArray[np.float64]:
    """For each row, the mean log-likelihood of its learned tokens under the model less that under its base, in nats."""
    from localsynth.codec import Codec
    from localsynth.hybrid import Writing
    from localsynth.llama import Decoder, Vocabulary

    given: frozenset[str] = frozenset()
    if current.hybrid:
        writing = Writing(schema)
        schema, given, rows = writing.schema, writing.given, [writing.with_lengths(row) for row in rows]
    with Vocabulary(base) as vocabulary:
        codec = Codec(schema, vocabulary.tokenize, vocabulary.start, description, given)
        encoded = [example for example in map(codec.encode, rows) if any(example.learned)]
    if not encoded:
        return np.empty(0)
    likelihoods = []
    for path in (current.product_path, base):
        with Decoder(path, 1, max(512, *(len(row.tokens) for row in encoded)), _threads()) as decoder:
            likelihoods.append(np.array([_likelihood(decoder, row) for row in encoded]))
    result: NDArray[np.float64] = likelihoods[0] - likelihoods[1]
    return result


def _threads() -> int:
    from localsynth.sample.job import default_threads

    return default_threads()


def _likelihood(decoder: Any, row: "Encoded") -> float:
    logits = decoder.all_logits(row.tokens)[:-1]
    logits -= logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits).sum(axis=1, dtype=np.float64))
    following = np.asarray(row.tokens[1:])
    learned = np.asarray(row.learned[1:])
    found = logits[np.arange(len(following)), following] - totals
    return float(found[learned].mean())
