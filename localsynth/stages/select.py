"""Model → runs/ID/selection.json: one noisy count of what the original texts are about, by topics of texts that the model wrote.

The count is one release: its whole budget is charged before an original row is read (but to see that the file is whole). It comes
after the export, since the topics are made from what the model writes; the certificate is then made anew, with what it cost.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localsynth.conditions import Conditions
from localsynth.config import DataConfig, PrivacyConfig, TrainConfig
from localsynth.errors import Cancelled
from localsynth.hybrid import Writing
from localsynth.runs import Run
from localsynth.schema import Record, Schema, Text, conform
from localsynth.stages.export import certify_model
from localsynth.stages.repeats import remaining_budgets
from localsynth.stages.session import Session, exported_run, open_budget, open_ledger, private_recorder
from localsynth.stages.table import Effective, effective_of
from localsynth.stages.train import source_of
from localsynth.workspace import write_json

if TYPE_CHECKING:
    from localsynth.privacy.ledger import Ledger
    from localsynth.selection.count import Aspect

__all__ = ["select"]

_FIRST_ROW = (1 << 47) + (1 << 41)
"""Where the rows begin that topics are made from: beyond any row of a table, other texts of it, and what stands in for it."""


def select(session: Session) -> dict[str, Any]:
    """Count the topics of the original texts, where the newest run keeps a part of its budget for that. Raises Cancelled."""
    from localsynth.selection.count import read_selection

    current = exported_run(session)
    if current.get("selection") or not current.selects:
        facts = current.get("selection") or {"topics": 0, "columns": []}
        return {"stage": "select", "run": current.id, "done_before": True, **facts}
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
    emit({"kind": "stage_started", "stage": "select", "seal": session.seal})
    if not any(event["budget"] == "selection" for event in ledger.spends(current.id)):
        _count(session, ledger, current, effective_of(current["table"]))
    if current.selection_path.exists():
        current.note(selection_sha256=current.selection_sha256())
        selection = read_selection(current.selection_path)
        facts = {"topics": selection.topics.count, "columns": [aspect.name for aspect in selection.aspects]}
    else:
        # It was charged, and what was counted was lost with the process. Counting again would be charged again.
        emit({"kind": "warning", "text": "The count of topics was interrupted. It stays charged; rows are drawn without it."})
        facts = {"topics": 0, "columns": []}
    certify_model(session, current)
    current.note(selection=facts)
    epsilon = ledger.spent().epsilon
    emit({"kind": "stage_done", "stage": "select", "epsilon": epsilon})
    return {"stage": "select", "run": current.id, "done_before": False, "epsilon": epsilon, **facts}


def _count(session: Session, ledger: "Ledger", current: Run, effective: Effective) -> None:
    """Charge the selection's budget, count, and write `selection.json`."""
    from localsynth.privacy.concentrated import rho_for
    from localsynth.privacy.noise import REHEARSAL_LABEL, SecureRandom
    from localsynth.selection.count import count_topics
    from localsynth.selection.topics import TEXTS_A_TOPIC, Topics, topics_for
    from localsynth.store.private import PrivateStore

    source_sha256 = source_of(session, current["table"])
    share = remaining_budgets(session, ledger)
    rho = rho_for(share.selection_epsilon, share.selection_delta)
    topics = topics_for(effective.training_units)
    aspects = _aspects(current, effective)
    written = _written(session, current, effective, topics * TEXTS_A_TOPIC)
    made = Topics.of_texts([text for _, text in written], topics)
    if session.should_stop():
        raise Cancelled("Stopped before anything was counted.", "`localsynth select` begins it again.")
    with PrivateStore.open(session.workspace) as store:
        store.check_readable()
        open_budget(session, ledger, "selection", current.id, share.selection_epsilon, share.selection_delta, source_sha256)
        mechanism = {"type": "zcdp", "rho": rho}
        ledger.charge(budget="selection", run=current.id, stage="select", what="topics of the texts", mechanism=mechanism)
        conformed = [conform(effective.schema, record) for _, record in store.records("train", effective.schema)]
    original = [_with_text(effective, row) for row in conformed if row is not None]
    selection = count_topics(made, aspects, original, written, rho, session.config.privacy.rows_per_unit, SecureRandom())
    if session.options.rehearsal_steps is not None:
        selection = replace(selection, noise=REHEARSAL_LABEL)
    write_json(current.selection_path, selection.to_json())


def _with_text(effective: Effective, row: Record) -> tuple[Record, str]:
    from localsynth.selection.topics import text_of

    return row, text_of([row[column.name] for column in effective.schema.learned() if isinstance(column, Text)])


def _aspects(current: Run, effective: Effective) -> "list[Aspect]":
    """The structured columns of a hybrid, as its marginals have them; none where the model writes whole rows."""
    from localsynth.marginals.model import MarginalModel
    from localsynth.sample.from_marginals import read_marginals
    from localsynth.selection.count import aspects_of

    if not current.hybrid:
        return []
    current.check_marginals()
    model = read_marginals(current.marginals_path)
    assert isinstance(model, MarginalModel)
    return aspects_of(model, Writing(effective.schema).lengths)


def _written(session: Session, current: Run, effective: Effective, rows: int) -> list[tuple[Record, str]]:
    """Synthetic rows with their texts, as `sample` has the model write them when nothing is chosen."""
    from localsynth.sample.engine import Request
    from localsynth.sample.from_marginals import conditions_from_marginals, others_from_marginals
    from localsynth.sample.job import engine_for
    from localsynth.store.synthetic import Job

    def nothing(i: int) -> Conditions:
        return {}

    seen, settings = effective.schema, session.config.sample
    given: Callable[[int], Conditions] = nothing
    other: Callable[[int, Conditions], Record] | None = None
    if current.hybrid:
        job = Job(0, _FIRST_ROW, rows, 0)
        given = conditions_from_marginals(current.marginals_path, seen, settings.seed, job, nothing)
        if settings.guidance:
            other = others_from_marginals(current.marginals_path, seen, settings.seed, job)
        seen = Writing(seen).schema

    def request(i: int) -> Request:
        row = given(i)
        return Request(_FIRST_ROW + i, row, other(i, row) if other is not None else None)

    made = []
    with engine_for(
        current.product_path,
        seen,
        current.description,
        settings,
        most=rows,
        hybrid=current.hybrid,
        guided=other is not None,
    ) as engine:
        for number, row in engine.rows(map(request, range(rows))):
            made.append(_with_text(effective, row))
            done = number + 1 - _FIRST_ROW
            if done % 20 == 0 or done == rows:
                session.emit({"kind": "progress", "stage": "select", "step": done, "steps": rows})
            if session.should_stop():
                raise Cancelled("Stopped before anything was counted.", "`localsynth select` begins it again.")
    return made
