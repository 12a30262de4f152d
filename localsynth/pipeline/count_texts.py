"""Model → runs/ID/text_counts.json: a noisy token histogram of the original texts.

The count is one release: its whole budget is charged before an original row is read (but to see that the file is whole). It comes
after the export, since it is compared with what the model writes; the certificate is then made anew, with what it cost.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localsynth.errors import Cancelled, ConfigError
from localsynth.events import progress, stage_started, warning
from localsynth.llm.row_text import END, Codec
from localsynth.pipeline.export import certify_model
from localsynth.pipeline.repeated_spends import remaining_budgets
from localsynth.pipeline.session import (
    Session,
    check_product,
    exported_run,
    open_budget,
    open_ledger,
    private_recorder,
    random_source,
)
from localsynth.pipeline.train import source_of
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Boolean, Category, Record, Schema, Text, Value, conform
from localsynth.schema.conditions import Allowed, Conditions, everything
from localsynth.schema.feasible import FeasibleSet
from localsynth.system.files import write_json
from localsynth.system.random_streams import COMPARISON_ROWS, REFINEMENT_ROWS
from localsynth.workspace.effective_schema import Effective
from localsynth.workspace.runs import Run, TextCountsOutcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.marginals.model import MarginalModel
    from localsynth.privacy.ledger import Ledger
    from localsynth.privacy.noise import RandomSource
    from localsynth.text_counts.grouping_columns import GroupingColumn
    from localsynth.text_counts.logit_bias import LogitBias
    from localsynth.text_counts.token_counts import TokenCounts

    Comparison = Callable[[list[Record], float, RandomSource], TokenCounts]

__all__ = ["count_texts", "count_texts_of"]

_MAX_TABLES = 3
"""Columns with value descriptions that tokens are counted by: each takes its part of the budget. Without descriptions, one."""
_MIN_ROWS = 100
"""Deviations of the noise in one table: the rows that a value needs to have counts of its own. Text messages had 215 of spam and
gained; of questions to a bank, 41 for each of 77 labels, and lost."""
_MAX_GROUPS, _MAX_CELLS = 100, 1 << 22
"""A table has no more groups than these, and no more cells: 32 MB, of which a handful are held at once."""


def count_texts(session: Session) -> dict[str, Any]:
    """Count the tokens of the original texts, where the newest run reserves a part of its budget for that. Raises Cancelled."""
    return count_texts_of(session, exported_run(session))


def count_texts_of(session: Session, current: Run) -> dict[str, Any]:
    """`count_texts` of a given run."""
    from localsynth.text_counts.token_counts import read_token_counts

    check_product(current)
    if current.record.text_counts is not None or not current.counts_texts:
        outcome = current.record.text_counts or TextCountsOutcome(found=0, columns=[])
        facts = {"counts_texts": current.counts_texts, **dict(outcome)}
        return {"stage": "count_texts", "run": current.id, "done_before": True, **facts}
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
    if not any(event["budget"] == "text_counts" for event in ledger.spends(current.id)):
        _count(session, ledger, current, effective)
    if current.text_counts_path.exists():
        count = read_token_counts(current.text_counts_path)
        if not count.refined:
            count = _refined(session, current, effective, count)
            write_json(current.text_counts_path, count.to_json())
        current.note(text_counts_sha256=current.text_counts_sha256())
        columns = [column.name for column in count.grouping_columns]
        outcome = TextCountsOutcome(found=len(count.tokens) - 1, columns=columns)
    else:
        # It was charged, and what was counted was lost with the process. Counting again would be charged again.
        emit(warning("The token count was interrupted. It stays charged; rows are generated without it."))
        outcome = TextCountsOutcome(found=0, columns=[])
    certify_model(session, current)
    current.note(text_counts=outcome)
    epsilon = ledger.spent().epsilon
    emit({"kind": "stage_done", "stage": "count_texts", "epsilon": epsilon})
    facts = {"epsilon": epsilon, "counts_texts": True, **dict(outcome)}
    return {"stage": "count_texts", "run": current.id, "done_before": False, **facts}


def _count(session: Session, ledger: "Ledger", current: Run, effective: Effective) -> None:
    """Charge the budget, count, and write `text_counts.json`."""
    from localsynth.privacy.zcdp import rho_for
    from localsynth.store.private import PrivateStore

    source_sha256 = source_of(session, current.record.table)
    share = remaining_budgets(session, ledger)
    rho = rho_for(share.text_counts_epsilon, share.text_counts_delta)
    compared = _compare(session, current, effective, rho)
    if session.should_stop():
        raise Cancelled("Stopped before anything was counted.", "`localsynth count-texts` begins it again.")
    with PrivateStore.open(session.workspace) as store:
        store.check_readable()
        open_budget(session, ledger, "text_counts", current.id, share.text_counts_epsilon, share.text_counts_delta, source_sha256)
        mechanism = {"type": "zcdp", "rho": rho}
        ledger.charge(budget="text_counts", run=current.id, stage="count_texts", what="tokens of the texts", mechanism=mechanism)
        conformed = [conform(effective.schema, record) for _, record in store.records("train", effective.schema)]
    count = compared([row for row in conformed if row is not None], rho, random_source(session))
    write_json(current.text_counts_path, count.to_json())


def _compare(session: Session, current: Run, effective: Effective, rho: float) -> "Comparison":
    """What the model writes now, and what counts the tokens of original rows, with noise of a ρ."""
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.text_counts.logit_bias import first_bias
    from localsynth.text_counts.token_counts import count_tokens

    with Vocabulary(current.product_path) as vocabulary:
        groups = min(_MAX_GROUPS, _MAX_CELLS // vocabulary.size)
    rows_per_unit = session.config.privacy.rows_per_unit
    described = any(isinstance(column, Category) and column.descriptions for column in effective.schema.learned())
    grouping_columns = _grouping_columns(
        current,
        effective,
        max_columns=_MAX_TABLES if described else 1,
        max_groups=groups,
        min_rows=_MIN_ROWS * rows_per_unit / math.sqrt(2 * rho),
    )
    written = _written_for(session, current, effective, grouping_columns, COMPARISON_ROWS, None)

    def count(original: list[Record], rho: float, random: "RandomSource") -> "TokenCounts":
        with Vocabulary(current.product_path) as vocabulary:
            tokens_of = _TokensOf(current, effective, vocabulary)
            rows = [(row, tokens_of(row)) for row in original]
            compared = [[(row, tokens_of(row)) for row in table] for table in written]
            end, size = tokens_of.end, vocabulary.size
        noisy, deviation, spends = count_tokens(grouping_columns, rows, size, rho, rows_per_unit, random)
        return first_bias(grouping_columns, noisy, compared, end, deviation, rho, spends, random.label)

    return count


def _refined(session: Session, current: Run, effective: Effective, count: "TokenCounts") -> "TokenCounts":
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.text_counts.logit_bias import LogitBias, refined_bias

    written = _written_for(session, current, effective, count.grouping_columns, REFINEMENT_ROWS, LogitBias(count))
    with Vocabulary(current.product_path) as vocabulary:
        tokens_of = _TokensOf(current, effective, vocabulary)
        return refined_bias(count, [[(row, tokens_of(row)) for row in table] for table in written], tokens_of.end)


class _TokensOf:
    """Which tokens the texts of a row hold: shape (tokens,), rising; none where all its texts are missing."""

    def __init__(self, current: Run, effective: Effective, vocabulary: "Vocabulary") -> None:
        self._codec = Codec(effective.schema, vocabulary.tokenize, vocabulary.start, current.description)
        self._fields = [field for field in self._codec.fields if isinstance(field.column, Text)]
        self.end: int = vocabulary.tokenize(END)[-1]

    def __call__(self, row: Record) -> "NDArray[np.int64]":
        import numpy as np

        texts = [(field, row[field.column.name]) for field in self._fields]
        held = {token for field, text in texts if text is not None for token in self._codec.encode_value(field, text)}
        return np.array(sorted(held), dtype=np.int64)


def _written_for(
    session: Session,
    current: Run,
    effective: Effective,
    grouping_columns: "list[GroupingColumn]",
    first: int,
    bias: "LogitBias | None",
) -> list[list[Record]]:
    """Rows that the model writes, for each grouping column (or once, where there is none): as many of each of its groups, where
    these are of values that can be requested."""
    from localsynth.text_counts.logit_bias import texts_for

    rows, tables = texts_for(effective.training_units), max(1, len(grouping_columns))
    groups = [_groups_to_ask_for(column, effective.schema, _marginals(current)) for column in grouping_columns]

    def asked(i: int) -> Conditions:
        table = i * tables // rows
        choices = groups[table] if groups else []
        return {grouping_columns[table].name: choices[i % len(choices)]} if choices else {}

    written: list[list[Record]] = [[] for _ in range(tables)]
    for i, row in enumerate(_written(session, current, effective, first, rows, asked, bias)):
        written[i * tables // rows].append(row)
    return written


def _groups_to_ask_for(grouping: "GroupingColumn", schema: Schema, marginals: "MarginalModel") -> list[Allowed]:
    """Each group of a category or truth value that the constraints and the marginals have rows of, as the set of its values; none
    for other columns."""
    column = grouping.attribute.column
    if not isinstance(column, Category | Boolean):
        return []
    values = [*everything(column).values, *([None] if column.nullable else [])]
    sets: list[set[Value]] = [set() for _ in range(grouping.size)]
    for value in values:
        sets[grouping.of({grouping.name: value})].add(value)
    groups = [Allowed(column, values=frozenset(group - {None}), null=None in group) for group in sets if group]
    feasible = FeasibleSet(schema)

    def has_rows(group: Allowed) -> bool:
        with suppress(ConfigError):
            marginals.sampler(0, {grouping.name: group})
            return not feasible or feasible.witness({grouping.name: group}) is not None
        return False

    return list(filter(has_rows, groups))


def _grouping_columns(current: Run, effective: Effective, **limits: Any) -> "list[GroupingColumn]":
    """The structured columns of a hybrid, as its marginals have them; none where the model writes whole rows."""
    from localsynth.text_counts.grouping_columns import grouping_columns_of

    if not current.hybrid:
        return []
    current.check_marginals()
    return grouping_columns_of(_marginals(current), ColumnSplit(effective.schema, hybrid=True).conditioning, **limits)


def _marginals(current: Run) -> "MarginalModel":
    from localsynth.marginals.model import MarginalModel
    from localsynth.sample.tabular import read_marginals

    model = read_marginals(current.marginals_path)
    assert isinstance(model, MarginalModel)
    return model


def _nothing(i: int) -> Conditions:
    return {}


def _written(
    session: Session,
    current: Run,
    effective: Effective,
    first: int,
    rows: int,
    asked: Callable[[int], Conditions] = _nothing,
    bias: "LogitBias | None" = None,
) -> list[Record]:
    """Synthetic rows from number `first` on, as `sample` has the model write them when nothing is chosen. `asked(i)` is asked of
    the i-th row's structured columns."""
    from localsynth.sample.job import open_sampler
    from localsynth.sample.sampler import Request
    from localsynth.sample.tabular import conditions_from_marginals, contrasts_from_marginals
    from localsynth.store.synthetic import Job

    seen, settings = effective.schema, session.config.sample
    given: Callable[[int], Conditions] = _nothing
    other: Callable[[int, Conditions], Record] | None = None
    if current.hybrid:
        job = Job(0, first, rows, 0)
        given = conditions_from_marginals(current.marginals_path, seen, settings.seed, job, asked)
        if settings.guidance:
            other = contrasts_from_marginals(current.marginals_path, seen, settings.seed, job)
        seen = ColumnSplit(seen, hybrid=True).schema

    def request(i: int) -> Request:
        row = given(i)
        return Request(first + i, row, other(i, row) if other is not None else None)

    made = []
    with open_sampler(
        current.product_path,
        seen,
        current.description,
        settings,
        max_rows=rows,
        hybrid=current.hybrid,
        guided=other is not None,
        bias=bias,
    ) as sampler:
        for number, row in sampler.rows(map(request, range(rows))):
            made.append(row)
            done = number + 1 - first
            if done % 20 == 0 or done == rows:
                session.emit(progress("count_texts", done, rows))
            if session.should_stop():
                counted = bias is not None
                raise Cancelled(
                    "Stopped after the count, which is kept." if counted else "Stopped before anything was counted.",
                    f"`localsynth count-texts` {'resumes it' if counted else 'begins it again'}.",
                )
    return made
