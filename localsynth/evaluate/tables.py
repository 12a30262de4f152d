"""All figures of the report about three tables, in one dictionary."""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from localsynth.evaluate.arrays import Rows, is_labelled, is_ordered, key_of, text_columns, texts
from localsynth.evaluate.attacks.attributes import attribute_inference
from localsynth.evaluate.attacks.copies import exact_copies, near_copies, shared_passages
from localsynth.evaluate.attacks.linkage import guess_quasi_identifiers, linkage
from localsynth.evaluate.attacks.membership import distance_to_closest_record, membership
from localsynth.evaluate.attacks.outcome import Attack
from localsynth.evaluate.attacks.singling_out import singling_out
from localsynth.evaluate.columns import compare_columns, histogram
from localsynth.evaluate.distance import measure_nearness
from localsynth.evaluate.pairs import compare_pairs
from localsynth.evaluate.personal import count_personal, gather_personal
from localsynth.evaluate.sdmetrics_scores import sdmetrics_scores
from localsynth.evaluate.sequences import Units, compare_sequences
from localsynth.evaluate.utility import compare_utility
from localsynth.evaluate.writing import Embed, compare_writing, describe_writing
from localsynth.schema.columns import Schema

Progress = Callable[[str, int, int, float], None]
"""Called before each step with (name, index from 0, number of steps, 0.0), during a long step
again with the fraction of it that is done, and after the last with ("", n, n, 0.0)."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps BLAS and OpenMP to one thread: on a busy machine, waiting threads turn seconds into minutes."""
    import sklearn.ensemble  # noqa: F401 - only libraries that are loaded already can be limited

    with threadpool_limits(1):
        yield


def json_able(value: Any) -> Any:
    """`value` with NumPy's numbers as Python's, dates as text, and what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): json_able(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_able(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, dt.date) else value


def describe_synthetic(synthetic: Rows, schema: Schema) -> dict[str, Any]:
    """Figures of the synthetic rows and the public schema alone, without the original.

    A report for release holds only these and the certificate.
    """
    columns = schema.learned()
    keys = [key_of(row, columns) for row in synthetic]
    personal = gather_personal(synthetic, schema)
    return {
        "rows": len(synthetic),
        "different_rows": len(set(keys)),
        "columns": [
            {
                "column": column.name,
                "kind": column.kind,
                "empty": sum(row[column.name] is None for row in synthetic) / len(synthetic) if synthetic else None,
                "histogram": histogram(column, {"synthetic": synthetic}) if is_labelled(column) or is_ordered(column) else None,
                "writing": None if is_labelled(column) or is_ordered(column) else describe_writing(texts(column, synthetic)),
            }
            for column in columns
        ],
        "personal": {name: len(strings) for name, strings in personal.items()} if text_columns(schema) else None,
    }


@one_thread()
def evaluate_tables(
    train: Rows,
    holdout: Rows,
    synthetic: Rows,
    schema: Schema,
    *,
    target: str | None = None,
    quasi_identifiers: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    embed: Embed | None = None,
    units: tuple[Units, Units, Units] | None = None,
) -> dict[str, Any]:
    """The report's figures, JSON-able. Every one carries its n; the same arguments give the same figures.

    `train` and `holdout` must not share a privacy unit, or the controls are worthless. `quasi_identifiers` None has them
    guessed by name, an empty list leaves linkage out; `target` None has it guessed. With `embed`, texts are also compared by
    embeddings. `units`: the same three tables by unit, where their rows are sequences.

        rows            {"original", "holdout", "synthetic"}
        columns, pairs, writing, sdmetrics                     see the modules of these names
        sequences       see `compare_sequences`; None where rows are independent
        utility         see `compare_utility`
        attacks         [Attack.to_json()]; more (an attack that asks the model) may be appended in the same form
        attacks_not_run [{"name", "reason"}]
        closest         distance to the closest record, a sanity check
        personal        see `count_personal`
        audit           None: the canary audit's place, filled in with `Audit.to_json()` where one was run
        audit_reason    why there is none
        synthetic_only  see `describe_synthetic`: the part that reads no private data

    Raises KeyError for a target or quasi-identifier that the schema does not have. For 5,000 rows a side
    it takes about half a minute on two cores.
    """
    known = guess_quasi_identifiers(schema) if quasi_identifiers is None else list(quasi_identifiers)
    # Report a wrong name before the long computation.
    for name in [*known, *([] if target is None else [target])]:
        schema.column(name)
    figures: dict[str, Any] = {
        "format": 1,
        "seed": seed,
        "rows": {"original": len(train), "holdout": len(holdout), "synthetic": len(synthetic)},
        "quasi_identifiers": {"columns": known, "chosen": "guessed" if quasi_identifiers is None else "named"},
        "audit": None,
        "audit_reason": "No canary audit was run; localsynth audit makes one.",
        "schema_losses": None,
        "sequences": None,
    }
    attacks: list[Attack] = []
    not_run: list[dict[str, str]] = []
    tables = train, holdout, synthetic
    steps, begun = 12 if units is None else 13, -1

    def begin(name: str) -> None:
        nonlocal begun
        begun += 1
        progress(name, begun, steps, 0.0)

    def collect(name: str, outcome: Attack | None, reason: str) -> None:
        if outcome is None:
            not_run.append({"name": name, "reason": reason})
        else:
            attacks.append(outcome)

    begin("synthetic rows")
    figures["synthetic_only"] = describe_synthetic(synthetic, schema)
    begin("columns")
    figures["columns"] = compare_columns(train, synthetic, schema, seed=seed)
    begin("pairs of columns")
    figures["pairs"] = compare_pairs(train, synthetic, schema, seed=seed)
    begin("texts")
    figures["writing"] = compare_writing(
        train, synthetic, schema, seed=seed, embed=embed, report=lambda done: progress("texts", begun, steps, done)
    )
    begin("sdmetrics")
    figures["sdmetrics"] = sdmetrics_scores(train, synthetic, schema, seed=seed)
    begin("utility")
    figures["utility"] = compare_utility(*tables, schema, target=target, seed=seed)
    begin("copies")
    near = measure_nearness(*tables, schema, seed=seed)
    attacks += [exact_copies(*tables, schema, seed=seed), near_copies(near, train, synthetic, schema, seed=seed)]
    collect("shared passages", shared_passages(*tables, schema), "There is no text of eight words or more.")
    begin("singling out")
    attacks += singling_out(*tables, schema, seed=seed)
    begin("linkage")
    reason = "No quasi-identifier (birth date, postal code, sex) was named or recognised by its name."
    collect("linkage", linkage(*tables, schema, known, seed=seed), reason)
    begin("attribute inference")
    guess = attribute_inference(*tables, schema, seed=seed)
    collect("attribute inference", guess, "There is no column to guess from others.")
    begin("membership")
    attacks += membership(near, seed=seed)
    figures["closest"] = distance_to_closest_record(near, seed=seed)
    begin("personal strings")
    figures["personal"] = count_personal(*tables, schema, seed=seed)
    if units is not None:
        begin("sequences")
        figures["sequences"] = compare_sequences(*units, schema)
    begin("")
    figures["attacks"] = [attack.to_json() for attack in attacks]
    figures["attacks_not_run"] = not_run
    result: dict[str, Any] = json_able(figures)
    return result
