"""Plans, findings and benchmarks as text for a person."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from localsynth.results.audit import AuditResult
from localsynth.results.doctor import DoctorResult
from localsynth.results.plans import CountError, Plan, RehearsalResult, Risks, Sweep


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, rounded."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def printable(text: str) -> str:
    """Control characters (a column name may hold an escape sequence) made visible."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def percent_at_most(share: float) -> str:
    """A probability in percent, rounded up at two digits of it or of what is missing to 100 %."""
    percent = 100 * share
    missing = max(1e-3, min(percent, 100 - percent))
    digits = max(0, 1 - math.floor(math.log10(missing)))
    return f"{math.ceil(round(percent * 10**digits, 6)) / 10**digits:g} %"


def risk_figures(risks: Risks) -> list[str]:
    """One line for membership inference, one for other inference."""

    def listed(shares: Iterable[float]) -> str:
        return ", ".join(map(percent_at_most, shares))

    return [
        f"at a false-positive rate of {listed(risk.false_positive_rate for risk in risks.membership)}, "
        f"a true-positive rate of at most {listed(risk.true_positive_rate for risk in risks.membership)}",
        f"from a base rate of {listed(risk.base_rate for risk in risks.inference)}, "
        f"success of at most {listed(risk.success for risk in risks.inference)}",
    ]


_LOOSER = {
    "order": "These bounds would be lower if the schema were declared, not measured.",
    "epsilon and delta": "These bounds follow from epsilon and delta alone; they would be lower for a single run with a declared "
    "number of units.",
}


def risk_sentences(risks: Risks) -> list[str]:
    """`risks` in plain words, with the assumptions, of one rate each."""
    member, guess = risks.membership[1], risks.inference[1]
    wrong, found = percent_at_most(member.false_positive_rate), percent_at_most(member.true_positive_rate)
    base_rate, success = percent_at_most(guess.base_rate), percent_at_most(guess.success)
    looser = _LOOSER.get(risks.basis)
    return [
        f"Membership inference: an attacker who wrongly takes {wrong} of those outside the table for members recognizes at most "
        f"{found} of the members, even one who knows every other row.",
        "Re-identification and attribute inference: a guess about a unit that would be right with probability "
        f"{base_rate} if its rows had not been used is right with probability at most {success}.",
        *([] if looser is None else [looser]),
    ]


_SYNTHESIZERS = {
    "hybrid": "hybrid (DP marginals + LLM for text)",
    "llm": "LLM (whole rows)",
    "marginals": "DP marginals",
}


_STAGE_NAMES = {"schema": "schema", "marginals": "marginals", "train": "training", "text_counts": "token counts"}


_ORIGINS = {"declared": "declared", "measured": "measured", "assumed": "assumed; declare privacy.public_size for a real figure"}


_MAX_NAMED = 40
"""Of a list of columns in a sentence."""


def first_of(names: Sequence[str]) -> str:
    """The names with commas between, and how many more there are where they are too many."""
    more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def plan_text(plan: Plan) -> str:
    """`plan`'s object for a person."""
    epsilon, seconds, adapters = plan.epsilon, plan.seconds, plan.adapters
    alone = ", ".join(f"{_STAGE_NAMES[stage]} {value:.3g}" for stage, value in epsilon.items() if stage != "total")
    lines = [
        f"units             about {plan.units:,} ({_ORIGINS[plan.units_origin]}), {plan.training_units:,} to train on",
        f"epsilon           {epsilon['total']:g} in all, composed jointly; alone: {alone}",
        f"delta             {plan.delta:.2g}",
        *(f"{name:<18}{text}" for name, text in zip(("membership", "inference"), risk_figures(plan.risks), strict=True)),
        f"synthesizer       {_SYNTHESIZERS[plan.synthesizer]}",
    ]
    if adapters is None:
        lines.append(f"noise multiplier  {plan.noise_multiplier:.3f}, over all marginals")
    else:
        layers = ", ".join(name.removesuffix("_proj") for name in adapters.layers)
        lines += [
            f"steps             {plan.steps:,} of about {plan.batch_size:,} units each ({plan.reserve_steps} in reserve)",
            f"noise multiplier  {plan.noise_multiplier:.3f}",
            f"adapters          on {layers} (chosen by the noise multiplier, measured with {adapters.measured})",
            f"micro-batch       {plan.micro_batch_tokens:,} tokens ({'GPU' if plan.device == 'cuda' else 'CPU'})",
        ]
    lines += [
        f"time              {'measure' if adapters is None else 'train'} {duration(seconds['train'])}, "
        f"export {duration(seconds['export'])}, {plan.rows_wanted:,} rows {duration(seconds['sample'])} "
        f"(in {plan.precision})",
        f"memory, disk      {plan.memory_bytes / 2**30:.1f} GiB, {plan.disk_bytes / 2**30:.1f} GiB "
        f"({plan.free_disk_bytes / 2**30:.0f} GiB free)",
    ]
    if plan.to_be_measured:
        lines.append(f"to be measured    {printable(first_of(plan.to_be_measured))}")
    lines += [f"warning: {printable(text)}" for text in plan.warnings]
    lines.append("Nothing was spent.")
    return "\n".join(lines)


def sweep_text(result: Sweep) -> str:
    """The object of `plan --sweep` for a person: a table, what its columns are, and what it assumes."""
    rows = result.rows
    columns = [("epsilon", [f"{row.epsilon:g}" for row in rows])]
    notes = []
    if result.single_tables is not None:
        columns.append(("single", [_error_text(row.single) for row in rows]))
        notes.append("single    standard deviation of a noisy count of one column, in rows (% of the training units)")
    if result.pair_tables is not None:
        columns.append(("pair", [_error_text(row.pair) for row in rows]))
        notes.append("pair      the same of a pair of columns")
    if any(row.list_threshold for row in rows):
        columns.append(("lists", [f"{row.list_threshold:,}" for row in rows]))
        notes.append("lists     rows that a value needs to be found in an open list")
    if result.steps is not None:
        columns.append(("noise", [f"{row.noise_multiplier:.3f}" for row in rows]))
        columns.append(("step", [f"{row.step_noise:.2g}" for row in rows]))
        notes += [
            f"noise     noise multiplier of training, over {result.steps:,} steps",
            "step      noise in each coordinate of a step's mean gradient: noise × clipping norm "
            f"{result.max_grad_norm:g} / batch size {result.batch_size:,}",
        ]
    if any(row.measured for row in rows):
        columns.append(("measured", [", ".join(f"{value:.2f}" for value in row.measured) for row in rows]))
        notes.append(
            "measured  on public tables, as a share of what originals give; a guide, not a forecast: "
            + "; ".join(result.measured_on)
        )
    widths = [max(map(len, [name, *cells])) for name, cells in columns]
    table = zip(*([name, *cells] for name, cells in columns), strict=True)
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    lines += ["", *(textwrap.fill(note, _SWEEP_WIDTH, subsequent_indent=" " * 10) for note in notes)]
    lines += ["", *(textwrap.fill(text, _SWEEP_WIDTH) for text in _sweep_assumptions(result)), "Nothing was read or spent."]
    return "\n".join(lines)


_SWEEP_WIDTH = 68
"""Characters of a line, which fit into a window with a scroll bar in a terminal of 80 columns."""


def _sweep_assumptions(result: Sweep) -> list[str]:
    single, pair, most = result.single_tables, result.pair_tables, result.rows_per_unit
    texts = [
        f"Assumed: a new run as configured; about {result.units:,} units ({_ORIGINS[result.units_origin]}), "
        f"{result.training_units:,} to train on{f', of at most {most:,} rows each' if most > 1 else ''}; "
        f"delta {result.delta:.2g}; {_SYNTHESIZERS[result.synthesizer]}."
    ]
    if single is not None and pair is not None:
        texts.append(
            f"Estimated: of the marginals' rho, {single.fraction:.0%} is for {single.count} tables of single columns, "
            f"{pair.fraction:.0%} for {pair.count} of pairs that link them, the rest for more pairs and to choose them."
        )
    if result.left_out:
        left_out = ", ".join(f"{epsilon:g}" for epsilon in result.left_out)
        texts.append(f"Left out: epsilon {left_out}, of which privacy.schema_epsilon leaves nothing for the rest.")
    return texts


def _error_text(error: CountError | None) -> str:
    return "" if error is None else f"{_two_digits(error.rows)} ({_two_digits(100 * error.share)}%)"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def rehearsal_text(result: RehearsalResult) -> str:
    """`rehearse`'s object for a person."""
    forecast, planned = result.forecast, result.planned
    lines = [
        f"Rehearsed on {result.units:,} random units ({result.units_origin}): {result.rehearsed.steps} steps of "
        f"{planned.steps:,}, {result.rehearsed.rows} rows of {planned.rows_wanted:,}.",
        "",
        "Estimate for the real run:",
        *(f"  {stage:<8}  {duration(seconds)}" for stage, seconds in forecast.seconds.items()),
        f"  memory    {forecast.memory_bytes / 2**30:.1f} GiB at most",
        "",
        "The format of the rows (the content means nothing: it was learned from random rows):",
    ]
    lines += ["  " + printable(" | ".join(f"{k}: {v}" for k, v in row.items())) for row in result.first_rows]
    lines += [f"warning: {printable(text)}" for text in result.warnings]
    lines += ["", f"Nothing was spent, no original row was read. Files: {result.workspace}"]
    return "\n".join(lines)


def audit_text(result: AuditResult) -> str:
    """`audit`'s object for a person."""
    claimed, control, confidence = result.claimed, result.control, f"{100 * result.confidence:.0f} %"
    lines = [
        f"Audit of run {result.run}: {result.status.upper()}",
        f"  {result.sentence}",
        "",
        f"claimed           epsilon {claimed.epsilon:.3g} at delta {claimed.delta:.1g}, and its curve",
        f"p-value           {_chance(result.p_value)} with {result.right} of {result.guesses} guesses right, "
        f"{_chance(control.p_value)} had there been no noise ({control.right} right)",
        f"epsilon at least  {result.epsilon:.2f} for any mechanism (confidence {confidence}); "
        f"the most this audit could have shown: {result.ceiling:.2f}",
    ]
    if search := result.search:
        lines.append(
            f"random endings    {search.found} of {search.inserted} occur in {search.rows} generated rows; exposure "
            f"{search.exposure:.1f} bits (1 is none, {search.highest:.1f} all)"
        )
    lines += [
        f"trained           in {result.training.precision} on {result.training.device}",
        "",
        f"Nothing was spent, no original row was read: the {result.canaries} canaries are random. File: {result.path}",
    ]
    return "\n".join(lines)


def _chance(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "below 0.0001"


def table_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows of a query as aligned text; long values are cut."""
    cells = [
        [printable("" if value is None else str(value)).replace("\n", " ")[:60] for value in row] for row in [columns, *rows]
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, f"({len(rows):,} rows)"])


def doctor_text(facts: DoctorResult) -> str:
    """`doctor`'s object for a person."""
    processor, memory, disk = facts.processor, facts.memory, facts.disk
    lines = [
        f"processor   {processor.name}, {processor.physical_cores} cores: {', '.join(processor.features)}",
        f"precision   {facts.precision}",
        f"memory      {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk        " + ", ".join(f"{place.free / 2**30:.1f} GiB free at {place.path}" for place in disk),
        f"GPU         {', '.join(gpu.name for gpu in facts.gpus) or 'none'}",
        f"seal        {', '.join(facts.seal) or 'none'}",
        f"models      {', '.join(model.name + ' (' + model.state + ')' for model in facts.models) or 'none'}",
        "versions    " + ", ".join(f"{name} {version or 'missing'}" for name, version in facts.versions.items()),
    ]
    for finding in facts.findings:
        lines.append(f"{finding.level}: {finding.text}" + (f" {finding.fix}" if finding.fix else ""))
    return "\n".join(lines)


def bench_sample_text(result: dict[str, Any]) -> str:
    """The sampling benchmark as a table."""
    ours, loop = result["ours"], result["loop"]
    lines = [f"{result['model']} {result['quantization']}, {result['threads']} threads, batch size {ours['batch_size']}"]
    for name in ("ours", "limit", "loop"):
        figures = result[name]
        lines.append(f"  {name:<6} {figures['rows_per_second']:8.2f} rows/s {figures['tokens_per_second']:8.0f} tokens/s")
    lines += [
        f"  of our time: llama_decode {ours['share_decode']:.1%}, grammar {ours['share_grammar']:.1%}, "
        f"token choice {ours['share_choose']:.1%}",
        f"  characters of text per row: {ours['characters_of_text']:.0f}, in the loop {loop['characters_of_text']:.0f}; "
        f"complete rows of the loop: {loop['whole_rows']} of {loop['rows']}",
        f"  ratio to the loop {result['ratio_loop']:.1f}, to the limit {result['ratio_limit']:.3f}",
    ]
    return "\n".join(lines)


def bench_table_text(result: dict[str, Any]) -> str:
    """The benchmark of tables as text."""
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result["stages"].items())
    lines = [
        f"{result['rows']:,} rows of {result['columns']} columns: {result['seconds']:.1f} s ({stages})",
        f"  {result['ratio_counting']:.1f} times what DuckDB takes to read the file and count all pairs "
        f"({result['counting_seconds']:.1f} s)",
        f"  sampling {result['rows_per_second']:,.0f} rows/s, {result['ratio_sampling']:.1f} times what NumPy takes for single "
        f"columns ({result['sampling_seconds']:.1f} s)",
        f"  peak memory {result['peak_memory'] / 2**30:.2f} GiB",
    ]
    return "\n".join(lines)


def bench_train_text(result: dict[str, Any]) -> str:
    """The training benchmark as a table."""
    lines = [f"{result['model']} in {result['precision']}, {result['units']} rows per step"]
    for name in ("dp", "plain", "ghost"):
        if name in result:
            lines.append(f"{_step_line(name, result[name])}   {result[name]['peak_memory'] / 2**30:.2f} GiB at most")
    lines += [
        f"{_step_line('limit', result['limit'])}   (matrix products alone)",
        f"  dp to plain: speed {result['ratio_speed']:.2f}, memory {result['ratio_memory']:.2f}; "
        f"share of the matrix products' rate {result['ratio_matmul']:.2f}",
    ]
    return "\n".join(lines)


def _step_line(name: str, figures: dict[str, Any]) -> str:
    return f"  {name:<6} {figures['seconds']:7.2f} s per step {figures['tokens_per_second']:7.0f} tokens/s"
