"""Whether the marginals in a file are what a certificate's ledger paid for. The file may be forged: nothing is trusted.

`localsynth.verification.certificate` checks that such a run has marginals. What must hold here: the columns are the
certificate's; every table of counts in the file has its own spend, with the noise that it says; the spends come to no more
than the ledger charged for this run; and nothing else was fitted.
"""

from typing import Any

from localsynth.config import text_columns
from localsynth.errors import LocalsynthError
from localsynth.marginals.accounting import total_rho
from localsynth.marginals.domain import Domain
from localsynth.marginals.model import MarginalModel
from localsynth.marginals.sequence_model import SequenceModel
from localsynth.marginals.transitions import EARLIER, LAST, Layout, before
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.privacy.ledger_chain import newest_run
from localsynth.schema.column_split import ColumnSplit
from localsynth.schema.columns import Schema


def what_is_wrong(model: MarginalModel | SequenceModel, document: dict[str, Any]) -> str:
    """What does not fit between marginals and a certificate whose own figures hold; "" if nothing."""
    try:
        if isinstance(model, SequenceModel):
            return _layout(model, document) or _sequence_tables(model, document) or _charge(model.transitions, document)
        return _columns(model, document) or _tables(model, document) or _charge(model, document)
    except (LocalsynthError, ArithmeticError, AttributeError, AssertionError, LookupError, TypeError, ValueError):
        return "What was measured cannot be compared with what was charged"


def _columns(model: MarginalModel, document: dict[str, Any]) -> str:
    schema = Schema.model_validate(document["schema"])
    domain = Domain.of_schema(ColumnSplit(schema, hybrid=bool(text_columns(schema))).schema)
    if model.domain != domain or document["settings"]["data"]["sequence_by"] is not None:
        return "Its columns are not those of the certificate's schema and settings"
    return ""


def _tables(model: MarginalModel, document: dict[str, Any]) -> str:
    counts = [spend for spend in model.spends if spend.kind == "gaussian"]
    distances = [spend for spend in model.spends if spend.kind == "distances"]
    if [spend.columns for spend in counts] != [measured.names for measured in model.measured]:
        return "The counts in it are not those that were charged, one by one"
    rows = document["guarantee"]["max_rows_per_unit"]
    if any(m.sigma != spend.parameter * rows for m, spend in zip(model.measured, counts, strict=True)):
        return "The noise of its counts is not the one that was charged"
    single, several = model.measured[: len(model.domain.names)], model.measured[len(model.domain.names) :]
    if [m.names for m in single] != [(name,) for name in model.domain.names] or any(len(m.names) < 2 for m in several):
        return "Not each of its columns was counted once"
    if len(distances) not in ((1, 2) if several else (0,)) or any(spend.columns for spend in distances):
        return "The tables in it are not those that were chosen"
    if {factor.names for factor in model.potentials} != {m.names for m in model.measured}:
        return "It was fitted to something else than its counts"
    return ""


def _layout(model: SequenceModel, document: dict[str, Any]) -> str:
    schema, order = Schema.model_validate(document["schema"]), document["settings"]["data"]["sequence_by"]
    if order is None or model.layout != Layout.of_schema(schema, order, document["guarantee"]["max_rows_per_unit"]):
        return "Its sequences are not those of the certificate's schema and settings"
    return ""


def _sequence_tables(model: SequenceModel, document: dict[str, Any]) -> str:
    layout, measured = model.layout, model.transitions.measured
    counts = [spend for spend in model.spends if spend.kind == "gaussian"]
    distances = [spend for spend in model.spends if spend.kind == "distances"]
    single = len(layout.own) - 2
    # In the order in which they were measured.
    noisy = [*measured[:single], *model.repeated, *measured[single:]]
    if [spend.columns for spend in counts] != [m.names for m in noisy]:
        return "The counts in it are not those that were charged, one by one"
    rows = document["guarantee"]["max_rows_per_unit"]
    if any(m.sigma != spend.parameter * rows for m, spend in zip(noisy, counts, strict=True)):
        return "The noise of its counts is not the one that was charged"
    names = [a.name for a in layout.own if a.name not in (EARLIER, LAST)]
    if [m.names for m in measured[: single + 1]] != [*((name,) for name in names), (EARLIER, LAST)]:
        return "Not each of its columns was counted once"
    if len(distances) not in (1, 2) or any(spend.columns for spend in distances):
        return "The tables in it are not those that were chosen"
    known = {(EARLIER, name) for name in layout.variables.names} | {(before(name),) for name in layout.described}
    if (
        not {m.names for m in measured}
        <= {factor.names for factor in model.transitions.potentials}
        <= {m.names for m in measured} | known
    ):
        return "It was fitted to something else than its counts"
    return ""


def _charge(model: MarginalModel, document: dict[str, Any]) -> str:
    charged = [event["mechanism"] for event in newest_run(document["ledger"]["events"]) if event["what"] == "marginals"]
    if charged != [gaussian_of_rho(model.rho)] or total_rho(model.spends) > model.rho:
        return "More was measured than was charged for this run, or something else"
    if model.noise != document["guarantee"]["noise"]:
        return "It was measured with other noise than the certificate says"
    return ""
