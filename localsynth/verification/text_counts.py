"""Whether the token counts in a file are what a certificate's ledger paid for. The file may be forged: nothing is trusted."""

from typing import Any

from localsynth.errors import LocalsynthError
from localsynth.marginals.accounting import total_rho
from localsynth.privacy.gaussian import gaussian_of_rho
from localsynth.privacy.ledger_chain import newest_run
from localsynth.schema.columns import Schema
from localsynth.text_counts.token_counts import TokenCounts


def what_is_wrong(counts: TokenCounts, document: dict[str, Any]) -> str:
    """What contradicts between token counts and a certificate whose own figures hold; "" if nothing."""
    try:
        return _columns(counts, document) or _charge(counts, document)
    except (LocalsynthError, ArithmeticError, AttributeError, AssertionError, LookupError, TypeError, ValueError):
        return "The token counts cannot be compared with what was charged"


def _columns(counts: TokenCounts, document: dict[str, Any]) -> str:
    if not counts.fits(Schema.model_validate(document["schema"])):
        return "The columns that tokens were counted by are not those of the certificate's schema"
    return ""


def _charge(counts: TokenCounts, document: dict[str, Any]) -> str:
    charged = [event["mechanism"] for event in newest_run(document["ledger"]["events"]) if event["stage"] == "count_texts"]
    if charged != [gaussian_of_rho(counts.rho)] or total_rho(counts.spends) > counts.rho:
        return "More tokens were counted than was charged for this run, or something else"
    expected = [("gaussian", columns) for columns in counts.tables]
    if [(spend.kind, spend.columns) for spend in counts.spends] != expected:
        return "The tables are not those that were charged, one by one"
    rows = document["guarantee"]["max_rows_per_unit"]
    if any(counts.sigma != spend.parameter * rows for spend in counts.spends):
        return "The noise of the tables is not the one that was charged"
    if counts.noise != document["guarantee"]["noise"]:
        return "Tokens were counted with other noise than the certificate says"
    return ""
