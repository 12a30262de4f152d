"""Estimates of a run, before anything is spent. Reads no row."""

import shutil
from dataclasses import replace

from localsynth.errors import BudgetError, ResourceError
from localsynth.llm.base_models import find_base_model
from localsynth.pipeline.session import Session
from localsynth.pipeline.train import need_device
from localsynth.planning.forecast import Machine, Size, expected_rows, forecast, forecast_marginals
from localsynth.planning.sweep import sweep
from localsynth.planning.warnings import (
    MIN_UNITS,
    delta_warning,
    measurement_needs,
    rows_warning,
    size_warning,
    text_warning,
)
from localsynth.results.plans import Plan, Sweep
from localsynth.schema.columns import Schema
from localsynth.system.extras import need_training_parts
from localsynth.workspace.effective_schema import read_ingest

ASSUMED_UNITS = 10_000
"""The number of units for estimates while it is neither declared nor measured."""


def known_size(session: Session) -> tuple[Schema, str, Size]:
    """(schema, origin, size), expected and public, from the ingested table or the configuration.

    origin: "measured", "declared" or "assumed".
    """
    config, workspace = session.config, session.workspace
    record = read_ingest(workspace)
    if record is not None and record.complete:
        effective = record.effective
        origin = "measured" if effective.size_measured else "declared"
        schema, kept, training = effective.schema, effective.kept_units, effective.training_units
    else:
        origin = "declared" if config.privacy.public_size else "assumed"
        units = config.privacy.public_size or ASSUMED_UNITS
        schema, kept = config.schema_, min(units, session.options.max_units or units)
        training = max(1, round(kept * (1 - config.privacy.holdout)))
    return schema, origin, Size(kept, training, session.options.rows or config.sample.rows or expected_rows(config, kept))


def _forecast(session: Session, schema: Schema, size: Size) -> Plan:
    need_training_parts()
    from localsynth.train.device import choose_device, choose_precision
    from localsynth.train.matmul_rate import matmul_rate
    from localsynth.train.memory import memory_room

    config = session.config
    base = find_base_model(config.train.model)
    # A configured GPU that is missing is a warning here, not an error.
    device = choose_device("cpu" if config.train.device == "cpu" else "auto")
    precision = choose_precision(config.train.precision, device)
    # Sampling runs on the CPU, in float32 or less.
    rate, float32_rate = (
        matmul_rate(kind, base.info.embedding_length, base.info.feed_forward_length, place)
        for kind, place in ((precision, device), ("fp32", "cpu"))
    )
    return forecast(config, base, schema, size, Machine(rate, float32_rate, precision, device, memory_room(device)))


def plan(session: Session) -> Plan | Sweep:
    """Estimates of a run, or of runs with several epsilons (--sweep). Spends nothing and reads no row."""
    return sweep(session.config, *known_size(session)) if session.options.sweep else plan_run(session)


def plan_run(session: Session) -> Plan:
    """Estimates of one run. Raises BudgetError for far too few units, unless --force."""
    schema, origin, size = known_size(session)
    config, kept = session.config, size.units
    planned = _forecast(session, schema, size) if config.synthesizer != "marginals" else forecast_marginals(config, size)
    found = [size_warning(kept), rows_warning(config), text_warning(config, kept), delta_warning(config, kept)]
    needs = measurement_needs(config) if schema.unmeasured() else []
    found += [need.text for need in needs if origin == "assumed" or kept < need.units]
    warnings = [text for text in found if text]
    free = shutil.disk_usage(session.workspace.root).free
    if free < planned.disk_bytes:
        warnings.append(f"The disk has {free / 1e9:.1f} GB free, and about {planned.disk_bytes / 1e9:.1f} GB are needed.")
    if planned.memory_room_bytes is not None:
        if planned.memory_room_bytes < planned.memory_bytes:
            warnings.append(
                f"Training needs about {planned.memory_bytes / 1e9:.1f} GB of memory, but only"
                f" {planned.memory_room_bytes / 1e9:.1f} GB are available for it: choose a smaller train.model."
            )
        try:
            need_device(config)
        except ResourceError as error:
            warnings.append(f"{error.message} {error.hint}")
    if not config.schema_.confirmed:
        warnings.append(
            "The schema was guessed and is not confirmed: check it in localsynth.toml, then set schema.confirmed = true."
        )
    if kept < MIN_UNITS and not session.options.force:
        raise BudgetError(warnings[0], "Collect more, or add --force to plan and run anyway.")
    return replace(
        planned,
        units_origin=origin,
        to_be_measured=tuple(dict.fromkeys(name for name, _ in schema.unmeasured())),
        units_needed={name: need.units for need in needs for name in need.columns},
        free_disk_bytes=free,
        warnings=tuple(warnings),
    )
