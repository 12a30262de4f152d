"""Model → runs/ID/selection.json: one noisy count of the tokens of the original texts.

The count is one release: its whole budget is charged before an original row is read (but to see that the file is whole). It comes
after the export, since it is compared with what the model writes; the certificate is then made anew, with what it cost.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localsynth.config import DataConfig, PrivacyConfig, TrainConfig
from localsynth.errors import Cancelled, ConfigError
from localsynth.events import progress, stage_started, warning
from localsynth.llm.row_text import END, Codec
from localsynth.pipeline.export import certify_model
from localsynth.pipeline.repeated_spends import remaining_budgets
from localsynth.pipeline.session import Session, exported_run, open_budget, open_ledger, private_recorder
from localsynth.pipeline.train import source_of
from localsynth.schema.column_split import Writing
from localsynth.schema.columns import Boolean, Category, Record, Schema, Text, Value, conform
from localsynth.schema.conditions import Allowed, Conditions, everything
from localsynth.schema.feasible import FeasibleSet
from localsynth.system.files import write_json
from localsynth.system.random_streams import COMPARISON_ROWS, REFINEMENT_ROWS
from localsynth.workspace.effective_schema import Effective, effective_of
from localsynth.workspace.runs import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.marginals.model import MarginalModel
    from localsynth.privacy.ledger import Ledger
    from localsynth.privacy.noise import RandomSource
    from localsynth.text_counts.grouping_columns import Aspect
    from localsynth.text_counts.logit_bias import Wording
    from localsynth.text_counts.token_counts import WordCount

    Comparison = Callable[[list[Record], float, RandomSource], WordCount]

__all__ = ["select"]

_MOST_TABLES = 3
"""Columns with value descriptions that words are counted by: each takes its part of the budget. Without any, one column."""
_LEAST_ROWS = 100
"""Deviations of the noise in one table: the rows that a value needs to have words of its own. Text messages had 215 of spam and
gained; of questions to a bank, 41 for each of 77 labels, and lost."""
_MOST_GROUPS, _MOST_CELLS = 100, 1 << 22
"""A table has no more groups than these, and no more cells: 32 MB, of which a handful are held at once."""


def select(session: Session) -> dict[str, Any]:
    """Count the tokens of the original texts, where the newest run keeps a part of its budget for that. Raises Cancelled."""
    from localsynth.text_counts.token_counts import read_word_count

    current = exported_run(session)
    if current.get("selection") or not current.selects:
        facts = current.get("selection") or {"found": 0, "columns": []}
        return {"stage": "select", "run": current.id, "done_before": True, "counts_texts": current.selects, **facts}
    # As the run began: what the configuration says now may be another run's, and would divide the budget in another way. The
    # schema is the one that was ingested, with what it left open then.
    settings, ingested = current["settings"], current["table"]["settings"]
    config = session.config.model_copy(
        update={
            "data": DataConfig(**ingested["data"]),
            "schema_": Schema(**ingested["schema"]),
            "train": TrainConfig(**settings["train"]),
            "privacy": PrivacyConfig(**settings["privacy"]),
        }
    )
    session, ledger = replace(session, config=config), open_ledger(session)
    emit = private_recorder(session, current)
    emit(stage_started("select", session.seal))
    effective = effective_of(current["table"])
    if not any(event["budget"] == "selection" for event in ledger.spends(current.id)):
        _count(session, ledger, current, effective)
    if current.selection_path.exists():
        count = read_word_count(current.selection_path)
        if not count.refined:
            count = _refined(session, current, effective, count)
            write_json(current.selection_path, count.to_json())
        current.note(selection_sha256=current.selection_sha256())
        facts = {"found": len(count.tokens) - 1, "columns": [aspect.name for aspect in count.aspects]}
    else:
        # It was charged, and what was counted was lost with the process. Counting again would be charged again.
        emit(warning("The count of texts was interrupted. It stays charged; rows are drawn without it."))
        facts = {"found": 0, "columns": []}
    certify_model(session, current)
    current.note(selection=facts)
    epsilon = ledger.spent().epsilon
    emit({"kind": "stage_done", "stage": "select", "epsilon": epsilon})
    return {"stage": "select", "run": current.id, "done_before": False, "epsilon": epsilon, "counts_texts": True, **facts}


def _count(session: Session, ledger: "Ledger", current: Run, effective: Effective) -> None:
    """Charge the selection's budget, count, and write `selection.json`."""
    from localsynth.privacy.noise import REHEARSAL_LABEL, SecureRandom
    from localsynth.privacy.zcdp import rho_for
    from localsynth.store.private import PrivateStore

    source_sha256 = source_of(session, current["table"])
    share = remaining_budgets(session, ledger)
    rho = rho_for(share.selection_epsilon, share.selection_delta)
    compared = _compare_words(session, current, effective, rho)
    if session.should_stop():
        raise Cancelled("Stopped before anything was counted.", "`localsynth select` begins it again.")
    with PrivateStore.open(session.workspace) as store:
        store.check_readable()
        open_budget(session, ledger, "selection", current.id, share.selection_epsilon, share.selection_delta, source_sha256)
        mechanism = {"type": "zcdp", "rho": rho}
        ledger.charge(budget="selection", run=current.id, stage="select", what="tokens of the texts", mechanism=mechanism)
        conformed = [conform(effective.schema, record) for _, record in store.records("train", effective.schema)]
    count = compared([row for row in conformed if row is not None], rho, SecureRandom())
    if session.options.rehearsal_steps is not None:
        count = replace(count, noise=REHEARSAL_LABEL)
    write_json(current.selection_path, count.to_json())


def _compare_words(session: Session, current: Run, effective: Effective, rho: float) -> "Comparison":
    """What the model writes now, and what counts the words of original rows, with noise of a ρ."""
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.text_counts.logit_bias import first_wording
    from localsynth.text_counts.token_counts import count_words

    with Vocabulary(current.product_path) as vocabulary:
        groups = min(_MOST_GROUPS, _MOST_CELLS // vocabulary.size)
    rows_per_unit = session.config.privacy.rows_per_unit
    meant = any(isinstance(column, Category) and column.descriptions for column in effective.schema.learned())
    aspects = _aspects(
        current,
        effective,
        most_aspects=_MOST_TABLES if meant else 1,
        most_groups=groups,
        least_rows=_LEAST_ROWS * rows_per_unit / math.sqrt(2 * rho),
    )
    written = _written_for(session, current, effective, aspects, COMPARISON_ROWS, None)

    def count(original: list[Record], rho: float, random: "RandomSource") -> "WordCount":
        with Vocabulary(current.product_path) as vocabulary:
            tokens_of = _TokensOf(current, effective, vocabulary)
            rows = [(row, tokens_of(row)) for row in original]
            compared = [[(row, tokens_of(row)) for row in table] for table in written]
            end, size = tokens_of.end, vocabulary.size
        noisy, deviation, spends = count_words(aspects, rows, size, rho, rows_per_unit, random)
        return first_wording(aspects, noisy, compared, end, deviation, rho, spends, random.label)

    return count


def _refined(session: Session, current: Run, effective: Effective, count: "WordCount") -> "WordCount":
    from localsynth.llm.llama_cpp import Vocabulary
    from localsynth.text_counts.logit_bias import Wording, refined_wording

    written = _written_for(session, current, effective, count.aspects, REFINEMENT_ROWS, Wording(count))
    with Vocabulary(current.product_path) as vocabulary:
        tokens_of = _TokensOf(current, effective, vocabulary)
        return refined_wording(count, [[(row, tokens_of(row)) for row in table] for table in written], tokens_of.end)


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
    session: Session, current: Run, effective: Effective, aspects: "list[Aspect]", first: int, wording: "Wording | None"
) -> list[list[Record]]:
    """Rows that the model writes, for each aspect (or once, where there is none): as many of each of its groups, where these are
    of values that can be asked for."""
    from localsynth.text_counts.logit_bias import texts_for

    rows, tables = texts_for(effective.training_units), max(1, len(aspects))
    groups = [_groups_to_ask_for(aspect, effective.schema, _marginals(current)) for aspect in aspects]

    def asked(i: int) -> Conditions:
        table = i * tables // rows
        choices = groups[table] if groups else []
        return {aspects[table].name: choices[i % len(choices)]} if choices else {}

    written: list[list[Record]] = [[] for _ in range(tables)]
    for i, row in enumerate(_written(session, current, effective, first, rows, asked, wording)):
        written[i * tables // rows].append(row)
    return written


def _groups_to_ask_for(aspect: "Aspect", schema: Schema, marginals: "MarginalModel") -> list[Allowed]:
    """Each group of a category or truth value that the constraints and the marginals have rows of, as the set of its values; none
    for other columns."""
    column = aspect.attribute.column
    if not isinstance(column, Category | Boolean):
        return []
    values = [*everything(column).values, *([None] if column.nullable else [])]
    sets: list[set[Value]] = [set() for _ in range(aspect.size)]
    for value in values:
        sets[aspect.of({aspect.name: value})].add(value)
    groups = [Allowed(column, values=frozenset(group - {None}), null=None in group) for group in sets if group]
    feasible = FeasibleSet(schema)

    def has_rows(group: Allowed) -> bool:
        with suppress(ConfigError):
            marginals.drawer(0, {aspect.name: group})
            return not feasible or feasible.witness({aspect.name: group}) is not None
        return False

    return list(filter(has_rows, groups))


def _aspects(current: Run, effective: Effective, **limits: Any) -> "list[Aspect]":
    """The structured columns of a hybrid, as its marginals have them; none where the model writes whole rows."""
    from localsynth.text_counts.grouping_columns import aspects_of

    if not current.hybrid:
        return []
    current.check_marginals()
    return aspects_of(_marginals(current), Writing(effective.schema).telling, **limits)


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
    wording: "Wording | None" = None,
) -> list[Record]:
    """Synthetic rows from number `first` on, as `sample` has the model write them when nothing is chosen. `asked(i)` is asked of
    the i-th row's structured columns."""
    from localsynth.sample.job import engine_for
    from localsynth.sample.sampler import Request
    from localsynth.sample.tabular import conditions_from_marginals, others_from_marginals
    from localsynth.store.synthetic import Job

    seen, settings = effective.schema, session.config.sample
    given: Callable[[int], Conditions] = _nothing
    other: Callable[[int, Conditions], Record] | None = None
    if current.hybrid:
        job = Job(0, first, rows, 0)
        given = conditions_from_marginals(current.marginals_path, seen, settings.seed, job, asked)
        if settings.guidance:
            other = others_from_marginals(current.marginals_path, seen, settings.seed, job)
        seen = Writing(seen).schema

    def request(i: int) -> Request:
        row = given(i)
        return Request(first + i, row, other(i, row) if other is not None else None)

    made = []
    with engine_for(
        current.product_path,
        seen,
        current.description,
        settings,
        most=rows,
        hybrid=current.hybrid,
        guided=other is not None,
        wording=wording,
    ) as engine:
        for number, row in engine.rows(map(request, range(rows))):
            made.append(row)
            done = number + 1 - first
            if done % 20 == 0 or done == rows:
                session.emit(progress("select", done, rows))
            if session.should_stop():
                counted = wording is not None
                raise Cancelled(
                    "Stopped after the count, which is kept." if counted else "Stopped before anything was counted.",
                    f"`localsynth select` {'goes on with it' if counted else 'begins it again'}.",
                )
    return made
