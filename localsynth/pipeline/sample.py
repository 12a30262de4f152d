"""Model, or marginals → synthetic.duckdb."""

from typing import TYPE_CHECKING

from localsynth.errors import ConfigError, IntegrityError
from localsynth.events import stage_done, stage_started
from localsynth.pipeline.session import Session, certificate_of, check_product, exported_run, recorder
from localsynth.results.stages import SampleResult
from localsynth.workspace.effective_schema import Effective
from localsynth.workspace.hash_secret import hash_secret
from localsynth.workspace.runs import Run, SampleOutcome

if TYPE_CHECKING:
    from localsynth.text_counts.logit_bias import LogitBias


def sample(session: Session) -> SampleResult:
    """Generate synthetic rows from the newest run until the table has the requested number."""
    return sample_run(session, exported_run(session))


def sample_run(session: Session, current: Run) -> SampleResult:
    """`sample` from a given run."""
    from localsynth.sample.job import generate_rows
    from localsynth.sample.row_plan import plan_rows
    from localsynth.sample.row_requests import read_row_requests
    from localsynth.sample.surrogates import Surrogates
    from localsynth.sample.tabular import generate_from_marginals
    from localsynth.schema.column_split import ColumnSplit
    from localsynth.store.synthetic import Origin, SyntheticStore
    from localsynth.system.lock import sampler_lock

    workspace, config = session.workspace, session.config
    check_product(current)
    if current.counts_texts and current.record.text_counts is None:
        raise ConfigError(
            f"Run {current.id} reserves a part of its budget for token counts, and nothing was counted yet.",
            f"Count: localsynth count-texts {workspace.root}",
        )
    effective, done, path = current.effective, current.exported, current.product_path
    options = session.options
    sequence_by = current.settings.data.sequence_by
    if sequence_by is not None and (options.where or options.balance or options.seeds):
        raise ConfigError(
            "Rows of a sequence cannot be generated under conditions yet: each depends on the previous one.",
            "Leave --where, --balance and --seeds out, and select from the finished table.",
        )
    secret = hash_secret(workspace) if options.seeds is not None else b""
    requested = read_row_requests(effective.schema, options.where, options.balance, options.seeds, config.data.missing, secret)
    if requested.rows is not None and (options.rows or options.more):
        raise ConfigError("A file of rows says itself how many there are.", "Leave --rows and --more out with --seeds.")
    emit = recorder(session, current)
    guarantee = certificate_of(session, current)["guarantee"]
    with sampler_lock(workspace.root / ".sampler.lock"):
        store = SyntheticStore(workspace.synthetic_path)
        if store.row_count() > store.row_count(current.id):
            # Rows of an earlier run: a table has one provenance, and theirs stays in their own certificate.
            store.clear()
        store.create_table(effective.schema)
        origin = Origin(
            current.id,
            done.model_hash,
            config.sample.seed,
            # The figure to rely on: the budgets, not what was spent of them.
            guarantee["guaranteed_epsilon"],
            guarantee["spent_delta"],
            # What shapes the rows' distribution; threads and the like do not.
            config.sample.model_dump(
                mode="json", include={"temperature", "top_p", "candidates", *(["guidance"] if current.hybrid else [])}
            ),
            requested.facts,
        )
        more = requested.rows or options.more
        total = None if more else options.rows or config.sample.rows or _as_many_as_the_original(current, effective)
        job = store.open_job(origin, total=total, more=more)
        emit(stage_started("sample", session.seal))
        unit = current.settings.privacy.unit if sequence_by else None
        surrogates = Surrogates(effective.schema, config.sample.seed, unit)
        if current.by_marginals:
            result = generate_from_marginals(path, surrogates, store, job, requested.conditions, emit, session.should_stop)
        else:
            split = ColumnSplit(effective.schema, hybrid=current.hybrid)
            numbers = range(job.first_row, job.first_row + job.rows)
            plan = plan_rows(
                path,
                current.description,
                split,
                current.marginals_path,
                config.sample,
                numbers,
                requested.conditions,
                _bias(current, effective),
            )
            result = generate_rows(plan, config.sample, surrogates, store, job, emit, session.should_stop)
        outcome = SampleOutcome(rows=store.row_count(), rejected=result.statistics.rejected, seconds=round(result.seconds, 1))
        current.note(sample=outcome)
        # Last of all, as near to the answer as can be.
        store.close_job(job.number)
    emit(stage_done("sample"))
    return SampleResult(
        run=current.id,
        new_rows=result.rows,
        rows=outcome.rows,
        rejected=outcome.rejected,
        seconds=outcome.seconds,
    )


def _bias(current: Run, effective: Effective) -> "LogitBias | None":
    """The logit bias from the run's token counts, if it has some."""
    from localsynth.text_counts.logit_bias import LogitBias
    from localsynth.text_counts.token_counts import read_token_counts

    if not current.check_text_counts():
        return None
    count = read_token_counts(current.text_counts_path)
    if not count.fits(effective.schema):
        raise IntegrityError(
            f"{current.text_counts_path} is of other columns than run {current.id}.", "Restore it from a backup, or train again."
        )
    return LogitBias(count)


def _as_many_as_the_original(current: Run, effective: Effective) -> int:
    """Rows where nobody said how many: one a unit; of sequences as many as the units have. By public and released figures."""
    from localsynth.marginals.file import read_marginals
    from localsynth.marginals.sequence_model import SequenceModel

    model = read_marginals(current.marginals_path) if current.by_marginals else None
    if not isinstance(model, SequenceModel):
        return effective.kept_units
    # Counted were the rows of the units to train on.
    return max(1, round(model.total * effective.kept_units / effective.training_units))
