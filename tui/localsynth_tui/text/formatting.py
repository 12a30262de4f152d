"""Formats values for the screen."""

import math
from typing import Any

from rich.text import Text

from localsynth.presentation import printable

SEALS = (("any seal of this machine", "any"), ("kernel seal only (--require-seal kernel)", "kernel"))
"""Choices of the network seal that a job requires: (label, value)."""


_VERDICTS = (
    (1, "a strong guarantee"),
    (4, "a reasonable guarantee"),
    (10, "a modest guarantee, common for text"),
    (math.inf, "a weak guarantee: it says little"),
)
"""Of an epsilon up to a limit."""


def plain(value: Any) -> str:
    """A value on one line, with control characters made visible; "" for a null."""
    text = "" if value is None else str(value).replace("\N{NO-BREAK SPACE}", " ")
    return printable(text).replace("\n", "\\n")


def cell(value: Any, width: int = 60) -> Text:
    """A value for a table: cut to `width` characters, and never read as markup."""
    text = plain(value)
    return Text(text if len(text) <= width else text[: width - 1] + "…", no_wrap=True)


def bar(fraction: float, width: int) -> str:
    """A fraction as a bar of `width` characters; values outside 0 to 1 are clipped."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return "█" * filled + "░" * (width - filled)


def bytes_text(count: float) -> str:
    """A number of bytes in MB or GiB."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def epsilon_sentence(epsilon: float, unit: str) -> str:
    """What an epsilon guarantees for a unit, in one sentence: by the definition (delta aside) the factor is e^epsilon."""
    rows = "any one row as without it" if unit == "row" else f"all rows of one {unit!r} as without them"
    factor = math.exp(epsilon)
    times = f"{factor:.1f}" if factor < 10 else f"about {float(f'{factor:.1g}'):,.0f}"
    verdict = next(text for limit, text in _VERDICTS if epsilon <= limit)
    return f"At worst, any result is {times} times as likely with {rows}: {verdict}."
