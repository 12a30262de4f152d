"""Model → runs/ID/text_counts.json: a noisy token histogram of the original texts.

It is one release. Its whole cost is charged before an original row is read; earlier, only the integrity of the private file
is checked. It comes after the export, because it is compared with what the model generates. The certificate is then issued
again, with what it cost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from localsynth.errors import Cancelled
from localsynth.events import progress, stage_started, warning
from localsynth.pipeline.export import certify_model
from localsynth.pipeline.session import (
    Session,
    check_product,
    exported_run,
    open_ledger,
    private_recorder,
    random_source,
)
from localsynth.pipeline.train import source_of
from localsynth.planning.budgets import shares_of
from localsynth.results.stages import CountTextsResult
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Record
from localsynth.schema.conditions import Conditions
from localsynth.system.files import file_sha256, write_json
from localsynth.system.random_streams import COMPARISON_ROWS, REFINEMENT_ROWS
from localsynth.workspace.effective_schema import Effective
from localsynth.workspace.runs import Run, TextCountsOutcome

if TYPE_CHECKING:
    from localsynth.marginals.model import MarginalModel
    from localsynth.privacy.ledger import Ledger
    from localsynth.text_counts.comparison import TextTokens
    from localsynth.text_counts.grouping_columns import GroupingColumn
    from localsynth.text_counts.logit_bias import LogitBias
    from localsynth.text_counts.token_counts import TokenCounts


def count_texts(session: Session) -> CountTextsResult:
    """Count the tokens of the original texts, where the newest run reserves a part of its budget for that. Raises Cancelled."""
    return count_texts_of(session, exported_run(session))


def count_texts_of(session: Session, current: Run) -> CountTextsResult:
    """`count_texts` of a given run."""
    from localsynth.text_counts.token_counts import read_token_counts

    check_product(current)
    if current.record.text_counts is not None or not current.counts_texts:
        return _result(current, current.record.text_counts or TextCountsOutcome(tokens=0, columns=[]), done_before=True)
    # As the run began: what the configuration says now may be another run's, and would divide the budget in another way. The
    # schema is the one that was ingested, with what it left open then.
    settings, ingested = current.settings, current.record.table.settings
    config = session.config.model_copy(
        update={
            "data": ingested.data,
            "schema_": ingested.schema_,
            "train": settings.train,
            "text_counts": settings.text_counts,
            "privacy": settings.privacy,
        }
    )
    session, ledger = replace(session, config=config), open_ledger(session)
    emit = private_recorder(session, current)
    emit(stage_started("count_texts", session.seal))
    effective = current.effective
    if not any(event["stage"] == "count_texts" for event in ledger.spends(current.id)):
        _count(session, ledger, current, effective)
    if current.text_counts_path.exists():
        counts = read_token_counts(current.text_counts_path)
        if not counts.refined:
            counts = _refined(session, current, effective, counts)
            write_json(current.text_counts_path, counts.to_json())
        current.note(text_counts_sha256=file_sha256(current.text_counts_path))
        # One of the tokens ends texts, and has no bias.
        columns = [column.name for column in counts.grouping_columns]
        outcome = TextCountsOutcome(tokens=len(counts.tokens) - 1, columns=columns)
    else:
        # It was charged, and what was counted was lost with the process. Counting again would be charged again.
        emit(warning("The token count was interrupted. It stays charged; rows are generated without it."))
        outcome = TextCountsOutcome(tokens=0, columns=[])
    certify_model(session, current)
    current.note(text_counts=outcome)
    epsilon = ledger.spent().epsilon
    emit({"kind": "stage_done", "stage": "count_texts", "epsilon": epsilon})
    return _result(current, outcome, done_before=False, epsilon=epsilon)


def _result(current: Run, outcome: TextCountsOutcome, done_before: bool, epsilon: float | None = None) -> CountTextsResult:
    return CountTextsResult(
        run=current.id,
        done_before=done_before,
        counts_texts=current.counts_texts,
        tokens=outcome.tokens,
        columns=outcome.columns,
        epsilon=epsilon,
    )


def _count(session: Session, ledger: "Ledger", current: Run, effective: Effective) -> None:
    """Charge the budget, count, and write `text_counts.json`."""
    from localsynth.privacy.gaussian import gaussian_of_rho
    from localsynth.store.private import PrivateStore
    from localsynth.text_counts.grouping_columns import choose_grouping_columns
    from localsynth.text_counts.logit_bias import first_bias
    from localsynth.text_counts.token_counts import count_tokens

    source_of(session, current.record.table)
    rho, rows_per_unit = shares_of(session.config).text_counts, session.config.privacy.rows_per_unit
    assert rho is not None
    # Whatever can fail without the rows fails before they are paid for.
    columns: list[GroupingColumn] = []
    if marginals := _marginals(current):
        split = ColumnSplit(effective.schema, hybrid=True)
        with _text_tokens(current, effective) as tokens:
            columns = choose_grouping_columns(split, marginals, rho, rows_per_unit, tokens.vocabulary_size)
    generated = _generated(session, current, effective, columns, COMPARISON_ROWS, None)
    if session.should_stop():
        raise Cancelled("Stopped before anything was counted.", "`localsynth count-texts` begins it again.")
    with PrivateStore.open(session.workspace) as store:
        store.check_readable()
        # Gaussian counts alone, of noise that is fixed by now.
        mechanism = gaussian_of_rho(rho)
        ledger.charge(budget=current.budget, run=current.id, stage="count_texts", what="tokens of the texts", mechanism=mechanism)
        original = [row for unit in store.conformed_units("train", effective.schema) for row in unit]
    with _text_tokens(current, effective) as tokens:
        size = tokens.vocabulary_size
        noisy = count_tokens(columns, tokens.of(original), size, rho, rows_per_unit, random_source(session))
        counts = first_bias(noisy, [tokens.of(rows) for rows in generated], tokens.end)
    write_json(current.text_counts_path, counts.to_json())


def _refined(session: Session, current: Run, effective: Effective, counts: "TokenCounts") -> "TokenCounts":
    from localsynth.text_counts.logit_bias import LogitBias, refined_bias

    generated = _generated(session, current, effective, counts.grouping_columns, REFINEMENT_ROWS, LogitBias(counts))
    with _text_tokens(current, effective) as tokens:
        return refined_bias(counts, [tokens.of(rows) for rows in generated], tokens.end)


@contextmanager
def _text_tokens(current: Run, effective: Effective) -> "Iterator[TextTokens]":
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.text_counts.comparison import TextTokens

    with Vocabulary(current.product_path) as vocabulary:
        yield TextTokens(effective.schema, current.description, vocabulary)


def _marginals(current: Run) -> "MarginalModel | None":
    """Those of a hybrid, checked; None where the model generates whole rows."""
    from localsynth.marginals.file import read_single_rows

    if not current.hybrid:
        return None
    current.check_marginals()
    return read_single_rows(current.marginals_path)


def _generated(
    session: Session,
    current: Run,
    effective: Effective,
    columns: "list[GroupingColumn]",
    first: int,
    bias: "LogitBias | None",
) -> list[list[Record]]:
    """Rows with numbers from `first` on, generated as by `sample`, for each table of the grouping columns."""
    from localsynth.sample.row_plan import plan_rows
    from localsynth.sample.sampler import Sampler
    from localsynth.text_counts.comparison import comparison_requests
    from localsynth.text_counts.logit_bias import comparison_rows

    settings, rows = session.config.sample, comparison_rows(effective.training_units)
    requests = comparison_requests(columns, effective.schema, _marginals(current), rows)
    tables: list[tuple[int, Conditions]] = [(table, row) for table, own in enumerate(requests) for row in own]
    plan = plan_rows(
        current.product_path,
        current.description,
        ColumnSplit(effective.schema, hybrid=current.hybrid),
        current.marginals_path,
        settings,
        range(first, first + rows),
        lambda i: tables[i][1],
        bias,
    )
    generated: list[list[Record]] = [[] for _ in requests]
    with Sampler(plan, settings, rows) as sampler:
        for done, (number, row) in enumerate(sampler.rows(map(plan.request, range(rows))), start=1):
            generated[tables[number - first][0]].append(row)
            if done % 20 == 0 or done == rows:
                session.emit(progress("count_texts", done, rows))
            if session.should_stop():
                counted = bias is not None
                raise Cancelled(
                    "Stopped after the count, which is kept." if counted else "Stopped before anything was counted.",
                    f"`localsynth count-texts` {'resumes it' if counted else 'begins it again'}.",
                )
    return generated
